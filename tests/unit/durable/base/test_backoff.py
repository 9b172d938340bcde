"""Pauses between attempts."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.durable.base import backoff
from aidevos.durable.base.backoff import Backoff

BACKOFFS = st.tuples(st.floats(0.001, 100), st.floats(1, 1e6)).map(lambda both: Backoff(both[0], both[0] * both[1]))
KEYS = st.none() | st.text(max_size=20)


@given(BACKOFFS, st.integers(1, 10_000), KEYS)
def test_a_pause_is_between_half_and_all_of_what_doubling_gives(backoff: Backoff, failed: int, key: str | None) -> None:
    doubled = min(backoff.first * 2.0 ** min(failed - 1, 1000), backoff.longest)

    assert doubled / 2 <= backoff.pause(failed, key) <= doubled


@given(BACKOFFS, st.integers(1, 100), st.text(max_size=20))
def test_the_pause_for_a_key_is_always_the_same(backoff: Backoff, failed: int, key: str) -> None:
    assert backoff.pause(failed, key) == backoff.pause(failed, key)


@pytest.mark.parametrize("keyed", [False, True])
def test_many_that_failed_together_come_back_evenly_spread(keyed: bool) -> None:
    pauses = [Backoff(8, 8).pause(1, f"counter:{number}" if keyed else None) for number in range(4000)]

    slices = [sum(4 + slot / 2 <= pause < 4.5 + slot / 2 for pause in pauses) for slot in range(8)]
    assert sum(slices) == 4000
    # Each is expected 500 times, with a standard deviation of 21.
    assert all(abs(count - 500) < 6 * math.sqrt(437.5) for count in slices)


def test_the_attempts_of_one_key_are_jittered_apart() -> None:
    assert len({Backoff(8, 8).pause(failed, "counter:a") for failed in range(1, 50)}) == 49


async def test_the_pauses_of_a_loop_grow_and_begin_anew_after_an_attempt_that_lasted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backoff, "JITTER", 0.0)
    slept: list[float] = []
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    pauses = Backoff(1, 5).pauses()

    for lasts in (0.0, 0.5, 1.0, 5.0, 5.1, 0.0):
        now += lasts
        await pauses.wait()

    assert slept == [1, 2, 4, 5, 1, 2]
