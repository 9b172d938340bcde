"""Duties: work that one host of a service does at a time, whoever owns a certain partition.

Promise: a duty runs while this host owns its partition, and has ended before the host releases that. A host that was
paused or cut off ends its duties only when it learns that its lease is lost, so a duty must bear another one beside it
for a moment. One that fails is logged and begins again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection

from aidevos.contracts import subjects
from aidevos.durable.base.tasks import cancel_and_wait, restart_on_failure

Work = Callable[[], Awaitable[None]]


class Duties:
    """The duties of one host, each tied to one of `partitions` partitions of a type."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._works: defaultdict[tuple[str, int], list[Work]] = defaultdict(list)
        self._closed = False
        self._running: dict[tuple[str, int], list[asyncio.Task[None]]] = {}

    def add(self, type: str, name: str, work: Work) -> None:
        """Add a duty. Its name decides which partition of the type it is tied to."""
        self._works[type, subjects.partition(type, name, self._partitions)].append(work)

    def take(self, type: str, partitions: Collection[int]) -> None:
        """Begin the duties of these partitions."""
        for place in ((type, each) for each in partitions if not self._closed):
            works = self._works.get(place, ())
            self._running[place] = [asyncio.ensure_future(restart_on_failure(work)) for work in works]

    async def drop(self, type: str, partition: int) -> None:
        """End the duties of a partition."""
        await cancel_and_wait(self._running.pop((type, partition), ()))

    async def close(self) -> None:
        """End all duties for good."""
        self._closed = True
        running, self._running = self._running, {}
        await cancel_and_wait([task for tasks in running.values() for task in tasks])
