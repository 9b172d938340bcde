"""Long work lets the loop turn, and several parts of it advance together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from time import perf_counter

import pytest

from aidevos.durable.base.slices import SLICE, Slices
from tests.support.kits import begun, quiet


def spin(seconds: float) -> float:
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass
    return seconds


async def test_the_loop_turns_between_slices() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = await begun(count_turns())
    turns = 0
    await Slices().map(spin, [SLICE / 5] * 100)
    assert turns >= 10
    counting.cancel()


async def test_small_steps_share_a_turn() -> None:
    slices, turns = Slices(), 0
    mapping = asyncio.ensure_future(slices.map(str, range(50)))
    while not mapping.done():
        await asyncio.sleep(0)
        turns += 1
    assert mapping.result() == [str(number) for number in range(50)]
    assert turns < 25


async def test_two_parts_advance_in_turn_and_share_the_slice() -> None:
    slices, order = Slices(), []

    def work(name: str) -> Iterator[None]:
        for _ in range(3):
            order.append(name)
            yield

    await asyncio.gather(slices.run(work("a")), slices.run(work("b")))
    assert order == ["a", "b"] * 3


async def test_a_failure_ends_only_its_own_part() -> None:
    slices = Slices()
    broken = asyncio.ensure_future(slices.map(lambda item: 1 / item, [1, 0]))
    assert await slices.map(str, range(9)) == [str(number) for number in range(9)]
    with pytest.raises(ZeroDivisionError):
        await broken


async def test_cancelled_work_does_not_continue() -> None:
    slices, steps = Slices(), []
    running = asyncio.ensure_future(slices.map(lambda item: steps.append(spin(item)), [SLICE] * 100))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    await quiet()
    done = len(steps)
    await quiet()
    assert len(steps) == done < 100
