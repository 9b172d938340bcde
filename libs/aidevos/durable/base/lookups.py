"""A short-lived cache of look-ups.

Promise: a cached value was current less than `LIFE` seconds ago. A negative result is never cached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

LIFE = 0.5
MAX_ENTRIES = 10_000


class Lookups(Generic[Value]):
    """Values by name, looked up on demand. At most `MAX_ENTRIES` are kept; the oldest is dropped first."""

    def __init__(self, elapsed: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self._elapsed = elapsed
        self._entries: dict[str, tuple[float, Value]] = {}
        self._in_flight: dict[str, asyncio.Future[Value | None]] = {}

    def kept(self, name: str) -> Value | None:
        """Return the cached value, or None if it is missing or too old."""
        found = self._entries.get(name)
        return found[1] if found is not None and found[0] > self._elapsed() else None

    async def get(self, name: str, fetch: Callable[[], Awaitable[Value | None]]) -> Value | None:
        """Return the value, from the cache or from `fetch`.

        Return None only if a fetch that began after this call found nothing.

        Callers of one name share a running fetch. If it fails, only the caller that started it gets the error; the
        others fetch again.
        """
        running_before = self._in_flight.get(name)
        while True:
            found = self.kept(name)
            if found is not None:
                return found
            running = self._in_flight.get(name)
            if running is None:
                return await self._fetch(name, fetch)
            await asyncio.wait([running])
            answered = not running.cancelled() and running.exception() is None
            if answered and running.result() is None and running is not running_before:
                return None

    async def _fetch(self, name: str, fetch: Callable[[], Awaitable[Value | None]]) -> Value | None:
        future: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
        self._in_flight[name] = future
        end = self._elapsed() + LIFE
        try:
            found = await fetch()
            if found is not None:
                self._store(name, end, found)
            future.set_result(found)
            return found
        finally:
            del self._in_flight[name]
            if not future.done():
                future.cancel()

    def _store(self, name: str, end: float, found: Value) -> None:
        self._entries.pop(name, None)
        self._entries[name] = (end, found)
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]
