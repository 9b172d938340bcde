from __future__ import annotations

import asyncio
import logging

import pytest

from aidevos.observability.slow_log import LINES, MOST_WAITS, OTHERS, PERIOD, SlowLog, collect_waits, note_wait, waiting


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow_log(clock: Clock) -> SlowLog:
    return SlowLog(clock)


def test_a_line_names_the_reasons_that_matter_the_longest_first(
    slow_log: SlowLog, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = {"in the method itself": 0.2, "in the mailbox": 1.3, "until its commit was sent": 0.001}

    slow_log.write("counter.increment", 10.0, 11.501, reasons, object="counter:a")

    assert caplog.messages == ["counter.increment took 1.501 s: 1.300 s in the mailbox, 0.200 s in the method itself"]
    assert vars(caplog.records[0])["object"] == "counter:a"
    assert vars(caplog.records[0])["reasons"]["until its commit was sent"] == 0.001


def test_a_line_names_a_blocked_event_loop(slow_log: SlowLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.now = 101.0
    slow_log.note_lag(0.9)
    slow_log.note_lag(0.001)

    slow_log.write("counter.increment", 100.5, 102.0, {})

    assert caplog.messages == ["counter.increment took 1.500 s: 0.500 s a blocked event loop"]


def test_a_flood_of_slow_requests_writes_a_limited_number_of_lines(
    slow_log: SlowLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(LINES + 7):
        slow_log.write("counter.increment", 0.0, 2.0, {})
    clock.now += PERIOD
    slow_log.write("counter.increment", 0.0, 2.0, {})

    assert len(caplog.records) == LINES + 1
    assert vars(caplog.records[-1])["omitted"] == 7


async def test_what_a_turn_waits_for_is_collected_also_in_tasks_that_it_starts() -> None:
    async def turn() -> dict[str, float]:
        waits = collect_waits()
        with waiting("call account.debit"):
            await asyncio.gather(hash_password(), hash_password())
        return waits

    async def hash_password() -> None:
        note_wait("hashing", 0.25)

    waits = await asyncio.create_task(turn())

    assert waits["hashing"] == 0.5
    assert waits.keys() == {"hashing", "call account.debit"}


async def test_a_turn_tells_a_limited_number_of_waits_apart() -> None:
    waits = await asyncio.create_task(_wait_for(MOST_WAITS + 5))

    assert len(waits) == MOST_WAITS + 1
    assert waits[OTHERS] == 5.0


async def _wait_for(count: int) -> dict[str, float]:
    waits = collect_waits()
    for number in range(count):
        note_wait(f"call type{number}.do", 1.0)
    return waits


def test_a_wait_outside_a_turn_is_noted_nowhere() -> None:
    note_wait("hashing", 1.0)


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
