"""The loop with virtual time, on which simulated processes run."""

from __future__ import annotations

import asyncio
import random

import pytest

from aidevos.testing.simulation.loop import Process, Stuck, VirtualLoop, new_loop


@pytest.fixture
def loop() -> VirtualLoop:
    return new_loop(random.Random(1))


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    async def work() -> float:
        await asyncio.sleep(1000.0)
        return loop.time()

    assert loop.run_until_complete(work()) == 1000.0


def test_nothing_left_to_do_is_an_error(loop: VirtualLoop) -> None:
    async def wait_forever() -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        loop.run_until_complete(wait_forever())


def test_a_process_keeps_the_order_of_asyncio(loop: VirtualLoop) -> None:
    seen: list[int] = []

    async def work() -> None:
        for number in range(20):
            loop.call_soon(seen.append, number)
        await asyncio.sleep(0)

    loop.run_until_complete(loop.process("one").start(work()))
    assert seen == list(range(20))


def test_the_seed_decides_which_process_goes_on() -> None:
    orders = {tuple(_interleave(seed)) for seed in range(10)}
    assert len(orders) > 1
    assert _interleave(3) == _interleave(3)


def _interleave(seed: int) -> list[str]:
    loop, seen = new_loop(random.Random(seed)), []

    async def work(name: str) -> None:
        for _ in range(5):
            seen.append(name)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(loop.process(name).start(work(name)) for name in "abc"))

    loop.run_until_complete(main())
    return seen


def _tick(loop: VirtualLoop, process: Process, times: list[float]) -> None:
    async def work() -> None:
        while True:
            await asyncio.sleep(1.0)
            times.append(loop.time())

    process.start(work())


def test_a_paused_process_runs_nothing_and_its_timers_fire_late(loop: VirtualLoop) -> None:
    process, times = loop.process("one"), []
    _tick(loop, process, times)
    loop.world.call(process.pause, 2.0, delay=1.5)
    loop.run_until_complete(asyncio.sleep(5.0))
    assert times == [1.0, 3.5, 4.5]


def test_a_resumed_process_goes_on_before_its_pause_would_have_ended(loop: VirtualLoop) -> None:
    process, times = loop.process("one"), []
    _tick(loop, process, times)
    loop.world.call(process.pause, 20.0, delay=1.5)
    loop.world.call(process.resume, delay=2.25)
    loop.world.call(process.pause, 1.0, delay=20.9)
    loop.run_until_complete(asyncio.sleep(23.0))
    assert times[:3] == [1.0, 2.25, 3.25]
    assert times[-1] == 22.9


def test_a_killed_process_does_not_even_run_its_finally_blocks(loop: VirtualLoop) -> None:
    process, seen = loop.process("one"), []

    async def work() -> None:
        try:
            await asyncio.sleep(2.0)
        finally:
            seen.append("finally")

    process.start(work())
    loop.world.call(process.kill, delay=1.0)
    loop.run_until_complete(asyncio.sleep(10.0))
    assert seen == []


def test_a_process_is_held_up_between_two_callbacks(loop: VirtualLoop) -> None:
    process = loop.process("one")
    process.stalls, process.stalled_for = 1.0, lambda: 0.5

    async def work() -> float:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return loop.time()

    assert loop.run_until_complete(process.start(work())) == 1.0


def test_a_resumed_process_takes_one_connection_after_another_and_then_its_timers() -> None:
    orders = {tuple(_take_after_pause(seed)) for seed in range(20)}
    assert orders == {("a1", "a2", "b1", "b2", "timer"), ("b1", "b2", "a1", "a2", "timer")}


def _take_after_pause(seed: int) -> list[str]:
    loop, seen = new_loop(random.Random(seed)), []
    process = loop.process("one")
    process.call(seen.append, "timer", delay=0.1)
    for when, what in enumerate(("a1", "b1", "a2", "b2"), 2):
        loop.arrive_at(when / 10, process, what[0], seen.append, what)
    process.pause(1.0)
    loop.run_until_complete(asyncio.sleep(2.0))
    return seen


def test_a_process_that_is_killed_in_a_pause_takes_nothing(loop: VirtualLoop) -> None:
    process, seen = loop.process("one"), []
    loop.arrive_at(1.0, process, "a", seen.append, "a1")
    process.pause(3.0)
    loop.world.call(process.kill, delay=2.0)
    loop.run_until_complete(asyncio.sleep(5.0))
    assert seen == []


def test_a_trap_springs_once_at_its_moment(loop: VirtualLoop) -> None:
    process, seen = loop.process("one"), []
    process.trap = "store.", lambda: seen.append("sprung")
    for moment in ("event.a", "store.commit", "store.claim"):
        process.reach(moment)
    assert seen == ["sprung"]
