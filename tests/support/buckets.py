"""A key-value bucket in memory, which several hosts of a test share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from aidevos.durable.bus.delivering import matches
from aidevos.durable.client.bucket import Entry, RevisionConflict


class MemoryBucket:
    """Behaves like `Bucket`. `faults` are called before each write; one that raises prevents it.

    `lost_acks` are raised after the next writes were applied, and `unread` by the next reads.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.faults: list[Callable[[str], None]] = []
        self.lost_acks: list[Exception] = []
        self.unread: list[Exception] = []
        # Keys that watches don't show at their beginning, as a stale replica may not.
        self.hidden: set[str] = set()
        self._watches: list[tuple[Sequence[str], asyncio.Queue[Entry | Exception]]] = []

    def value(self, key: str) -> str:
        """Return a key's value as text, or an empty string."""
        entry = self.entries.get(key)
        return (entry.value or b"").decode() if entry else ""

    async def get(self, key: str) -> tuple[bytes | None, int]:
        await asyncio.sleep(0)
        if self.unread:
            raise self.unread.pop()
        entry = self.entries.get(key, Entry(key, None, 0))
        return entry.value, entry.revision

    async def keys(self, prefix: str) -> list[str]:
        return [key for key, entry in self.entries.items() if key.startswith(prefix) and entry.value is not None]

    async def set(self, key: str, value: bytes, revision: int, ttl: int | None = None) -> int:
        return await self._write(key, value, revision)

    async def set_all(self, value: bytes, revisions: Mapping[str, int]) -> dict[str, int]:
        await asyncio.sleep(0)
        for key in revisions:
            self._check(key, revisions[key])
        written = {key: self.write(key, value) for key in revisions}
        if self.lost_acks:
            raise self.lost_acks.pop()
        await asyncio.sleep(0)
        return written

    async def put(self, key: str, value: bytes) -> None:
        await self._write(key, value, None)

    async def delete(self, key: str, revision: int | None = None, **options: Any) -> int:
        return await self._write(key, None, revision)

    async def _write(self, key: str, value: bytes | None, revision: int | None) -> int:
        await asyncio.sleep(0)
        self._check(key, revision)
        written = self.write(key, value)
        if self.lost_acks:
            raise self.lost_acks.pop()
        await asyncio.sleep(0)
        return written

    def _check(self, key: str, revision: int | None) -> None:
        for fault in self.faults:
            fault(key)
        if revision is not None and self.entries.get(key, Entry(key, None, 0)).revision != revision:
            raise RevisionConflict

    def write(self, key: str, value: bytes | None) -> int:
        """Write a key at once, as some other process may."""
        self.revision += 1
        self.entries[key] = entry = Entry(key, value, self.revision)
        for patterns, queue in self._watches:
            if any(matches(pattern, key) for pattern in patterns):
                queue.put_nowait(entry)
        return self.revision

    def break_watches(self, error: Exception) -> None:
        """End all watches with an error."""
        for _, queue in self._watches:
            queue.put_nowait(error)

    async def watch(
        self, keys: Sequence[str], until: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[Entry | None, None]:
        queue: asyncio.Queue[Entry | Exception] = asyncio.Queue()
        watch = keys, queue
        self._watches.append(watch)
        try:
            for key, entry in list(self.entries.items()):
                if key not in self.hidden and any(matches(each, key) for each in keys):
                    yield entry
            yield None
            while not until():
                try:
                    async with asyncio.timeout(0.01):
                        item = await queue.get()
                except TimeoutError:
                    continue
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._watches.remove(watch)
