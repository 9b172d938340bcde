"""Long work in slices, between which the event loop turns.

Promise: all long work of one `Slices` together takes about `SLICE` seconds in one turn of the loop, however much there
is. Its parts advance in turn. Only a single step is never divided.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TypeVar

SLICE = 0.005
Item = TypeVar("Item")
Result = TypeVar("Result")


class Slices:
    """Runs long work step by step on the event loop."""

    def __init__(self) -> None:
        self._work: deque[tuple[Iterator[object], asyncio.Future[None]]] = deque()

    @property
    def busy(self) -> bool:
        """True if there is work left."""
        return bool(self._work)

    async def run(self, work: Iterable[object]) -> None:
        """Return once all steps of the work are done. Each step is one `next`; what it gives is dropped."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        if not self._work:
            loop.call_soon(self._advance)
        self._work.append((iter(work), done))
        await done

    async def map(self, step: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Apply a function to each item, one step each, and return the results."""
        results: list[Result] = []
        await self.run(map(results.append, map(step, items)))
        return results

    async def call(self, step: Callable[[], Result]) -> Result:
        """Call a function in a slice, and return its result."""
        return (await self.map(lambda _: step(), (None,)))[0]

    def _advance(self) -> None:
        end = perf_counter() + SLICE
        while self._work:
            work, done = self._work.popleft()
            if _step(work, done):
                self._work.append((work, done))
            if perf_counter() >= end:
                break
        if self._work:
            asyncio.get_running_loop().call_soon(self._advance)


def _step(work: Iterator[object], done: asyncio.Future[None]) -> bool:
    """Do one step; return False if the work has ended or nobody waits for it any more."""
    if done.done():
        return False
    try:
        next(work)
    except StopIteration:
        done.set_result(None)
        return False
    except Exception as error:
        done.set_exception(error)
        return False
    return True
