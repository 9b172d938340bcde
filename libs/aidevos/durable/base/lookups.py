"""What was looked up, kept in the process for a moment.

Promise: what is found is what stood there less than `LIFE` seconds before it was asked for. That nothing
stood there is never kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")

LIFE = 0.5
KEPT = 10_000


class Lookups(Generic[Found]):
    """What was found by its name; what is longest unused is forgotten past the bound."""

    def __init__(self, elapsed: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self._elapsed = elapsed
        self._kept: dict[str, tuple[float, Found]] = {}
        self._asked: dict[str, asyncio.Future[Found | None]] = {}

    def kept(self, name: str) -> Found | None:
        """What was found, if it is fresh enough."""
        found = self._kept.get(name)
        return found[1] if found is not None and found[0] > self._elapsed() else None

    async def get(self, name: str, fetch: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """What is found; None where there was nothing after this was called. `fetch` looks it up, for one
        caller at a time."""
        earlier = self._asked.get(name)
        while True:
            found = self.kept(name)
            if found is not None:
                return found
            asked = self._asked.get(name)
            if asked is None:
                return await self._ask(name, fetch)
            await asyncio.wait([asked])
            answered = not asked.cancelled() and asked.exception() is None
            if answered and asked.result() is None and asked is not earlier:
                return None

    async def _ask(self, name: str, fetch: Callable[[], Awaitable[Found | None]]) -> Found | None:
        future: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._asked[name] = future
        end = self._elapsed() + LIFE
        try:
            found = await fetch()
            if found is not None:
                self._keep(name, end, found)
            future.set_result(found)
            return found
        finally:
            del self._asked[name]
            if not future.done():
                future.cancel()

    def _keep(self, name: str, end: float, found: Found) -> None:
        self._kept.pop(name, None)
        self._kept[name] = (end, found)
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
