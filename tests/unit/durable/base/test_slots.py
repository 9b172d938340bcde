"""A bound on running operations that follows a number which changes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from aidevos.durable.base.slots import Slots

ROUNDS = 5


class Room:
    """Operations that hold a slot until they are ended."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.slots = Slots(lambda: self.limit)
        self.running: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def start(self, *names: str) -> None:
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._hold(name))
        await turn_loop()

    async def end(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await turn_loop()

    async def _hold(self, name: str) -> None:
        async with self.slots:
            self.running.append(name)
            try:
                await self.ends[name].wait()
            finally:
                self.running.remove(name)


async def turn_loop() -> None:
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


async def close(room: Room) -> None:
    for task in room.tasks.values():
        task.cancel()
    await asyncio.gather(*room.tasks.values(), return_exceptions=True)


async def test_operations_run_in_their_order_up_to_the_limit() -> None:
    room = Room(2)
    await room.start("a", "b", "c", "d")
    first = list(room.running)
    await room.end("a")
    second = list(room.running)
    await close(room)

    assert (first, second) == (["a", "b"], ["b", "c"])


async def test_a_lower_limit_ends_nothing_and_admits_nothing_until_enough_have_ended() -> None:
    room = Room(3)
    await room.start("a", "b", "c", "d", "e")
    room.limit = 1
    seen = [list(room.running)]
    for name in ("a", "b", "c"):
        await room.end(name)
        seen.append(list(room.running))
    await close(room)

    assert seen == [["a", "b", "c"], ["b", "c"], ["c"], ["d"]]


async def test_a_higher_limit_admits_all_that_fit_when_one_ends() -> None:
    room = Room(1)
    await room.start("a", "b", "c", "d")
    room.limit = 2
    await room.end("a")
    seen = list(room.running)
    await close(room)

    assert seen == ["b", "c"]


async def test_operations_that_are_given_up_while_they_wait_keep_no_slot() -> None:
    room = Room(1)
    await room.start("a", "b", "c", "d")
    # `b` gives up while it waits, and `c` in the moment in which it is admitted.
    room.tasks["b"].cancel()
    room.ends["a"].set()
    await room.tasks["a"]
    room.tasks["c"].cancel()
    await turn_loop()
    seen = list(room.running)
    await close(room)

    assert seen == ["d"]


async def test_a_slot_is_free_again_after_an_error() -> None:
    slots = Slots(lambda: 1)
    try:
        async with slots:
            raise LookupError
    except LookupError:
        pass
    async with AsyncExitStack() as held, asyncio.timeout(1.0):
        await held.enter_async_context(slots)
