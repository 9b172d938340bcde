"""The intake refuses what finds no room or can't meet its deadline, and lets others past a burst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from aidevos.durable.hosting import intake as intakes
from aidevos.durable.hosting.fair_queue import Arrival
from aidevos.durable.hosting.intake import Intake
from tests.support.kits import until

ROOM = 1000


class Setup:
    """An intake whose requests stay unanswered."""

    def __init__(self) -> None:
        self.begun: list[Arrival] = []
        self.refused: list[tuple[bytes, float]] = []
        self.congested = False
        self.intake = Intake(
            self.begun.append,
            lambda reply, wait: self.refused.append((reply, wait)),
            lambda: self.congested,
            room=ROOM,
            room_bytes=1024 * 1024,
            default_deadline=10.0,
        )

    def send(self, caller: str, target: str, *, reply: bytes = b"", deadline: str = "", data: bytes = b"") -> None:
        headers = f"NATS/1.0\r\nAuthorization: {caller}\r\n"
        headers += f"Deadline: {deadline}\r\n" if deadline else ""
        self.intake.receive(f"dop.1.tally.{target}.add".encode(), reply, data, f"{headers}\r\n".encode())


@pytest.fixture
async def setup(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    monkeypatch.setattr(intakes, "SMALL", 10)
    setup = Setup()
    yield setup
    setup.intake.close()


async def test_what_arrives_is_dispatched(setup: Setup) -> None:
    for number in range(100):
        setup.send("a", f"o{number % 3}")

    await asyncio.wait_for(setup.intake.join(), 5)

    assert len(setup.begun) == 100
    assert setup.refused == []


async def test_requests_keep_their_order_when_few_become_many(setup: Setup) -> None:
    for number in range(2 * intakes.MANY):
        setup.send("a", "o", data=b"%d" % number)
    await asyncio.wait_for(setup.intake.join(), 5)
    for number in range(3):
        setup.send("a", "o", data=b"%d" % number)
    await asyncio.wait_for(setup.intake.join(), 5)

    order = [*range(2 * intakes.MANY), *range(3)]
    assert [item.data for item in setup.begun] == [b"%d" % number for number in order]


async def test_few_requests_make_room_for_other_work_after_a_moment(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intakes, "SLICE", -1.0)
    for number in range(intakes.MANY):
        setup.send("a", f"o{number}")

    await asyncio.sleep(0)
    begun = len(setup.begun)
    await asyncio.wait_for(setup.intake.join(), 5)

    assert begun < len(setup.begun) == intakes.MANY


async def test_requests_count_as_pending_until_they_are_answered(setup: Setup) -> None:
    others = pending()
    for _ in range(3):
        setup.send("a", "o")
    before = pending()
    await asyncio.wait_for(setup.intake.join(), 5)
    dispatched = pending()
    setup.intake.settle(setup.begun[0])

    assert (before - others, dispatched - others, pending() - others) == (3, 3, 2)


def pending() -> float:
    return REGISTRY.get_sample_value("aidevos_pending_requests") or 0.0


@pytest.mark.parametrize("deadline", ["9" * 400, "9" * 5000, "-1", "soon"])
async def test_a_deadline_that_makes_no_sense_is_judged_later(setup: Setup, deadline: str) -> None:
    setup.send("a", "o", deadline=deadline)

    await asyncio.wait_for(setup.intake.join(), 5)

    assert len(setup.begun) == 1


async def test_a_burst_leaves_room_for_other_objects_and_other_callers(setup: Setup) -> None:
    setup.congested = True
    for _ in range(2 * ROOM):
        setup.send("burst", "o")
    assert len(setup.refused) == 2 * ROOM - 750
    setup.refused.clear()

    setup.send("burst", "other")
    setup.send("someone", "o")

    assert setup.refused == []


async def test_a_full_host_refuses_everyone_until_requests_are_answered(setup: Setup) -> None:
    for number in range(ROOM):
        setup.send(f"caller {number}", "o")
    setup.send("late", "o", reply=b"_INBOX.late")
    assert [reply for reply, _ in setup.refused] == [b"_INBOX.late"]
    await asyncio.wait_for(setup.intake.join(), 5)

    setup.intake.settle(setup.begun[0])
    setup.send("later", "o")

    assert len(setup.refused) == 1


async def test_the_size_of_what_waits_is_bounded(setup: Setup) -> None:
    for _ in range(2):
        setup.send("a", "o", data=bytes(600 * 1024))

    assert len(setup.refused) == 1


async def test_a_request_that_would_wait_past_its_deadline_is_refused_at_once(setup: Setup) -> None:
    setup.congested = True
    for _ in range(700):
        setup.send("burst", "o")

    setup.send("burst", "o", reply=b"_INBOX.hurried", deadline="200")
    setup.send("burst", "o", reply=b"_INBOX.patient", deadline="20000")

    assert [reply for reply, _ in setup.refused] == [b"_INBOX.hurried"]
    assert setup.refused[0][1] == pytest.approx(700 / intakes.FIRST_RATE)


async def test_a_request_is_refused_before_its_deadline_if_it_still_waits(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intakes, "SWEEP_EVERY", 0.0)
    setup.congested = True
    loop = asyncio.get_running_loop()
    began = loop.time()
    setup.send("a", "o", reply=b"_INBOX.a", deadline="500")

    await until(lambda: bool(setup.refused))

    assert loop.time() - began < 0.5
    setup.congested = False
    await asyncio.wait_for(setup.intake.join(), 5)
    assert setup.begun == []


async def test_nothing_is_dispatched_while_the_host_is_congested(setup: Setup) -> None:
    setup.congested = True
    setup.send("a", "o")
    await asyncio.sleep(0.01)
    assert setup.begun == []

    setup.congested = False

    await asyncio.wait_for(setup.intake.join(), 5)
    assert len(setup.begun) == 1


async def test_the_loop_turns_while_many_requests_are_dispatched(setup: Setup) -> None:
    for _ in range(500):
        setup.send("a", "o")
    turns = 0
    while len(setup.begun) < 100:
        await asyncio.sleep(0)
        turns += 1

    assert turns > 1
