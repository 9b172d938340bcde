"""The event bus in memory, for tests of rules: the same contract as JetStream."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aidevos.durable.bus.port import Delivery, Handler, Misplaced

log = logging.getLogger(__name__)
RETRY_PAUSE = 0.01


class MemoryBus:
    def __init__(self) -> None:
        self.events: list[tuple[str, bytes, str, int]] = []
        self._places: dict[tuple[str, str], int] = {}
        self._stored = asyncio.Condition()
        self._delivering: dict[tuple[str, str], asyncio.Lock] = {}

    async def last(self, scope: str) -> tuple[int, int]:
        for index in range(len(self.events) - 1, -1, -1):
            if matches(scope, self.events[index][0]):
                return index + 1, self.events[index][3]
        return 0, 0

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        if (await self.last(scope))[0] != after:
            raise Misplaced
        async with self._stored:
            self.events.append((subject, payload, id, number))
            self._stored.notify_all()
        return len(self.events)

    async def subscribe(self, pattern: str, group: str, handler: Handler) -> MemorySubscription:
        return MemorySubscription(asyncio.create_task(self._deliver(pattern, group, handler)))

    async def _deliver(self, pattern: str, group: str, handler: Handler) -> None:
        while True:
            async with self._delivering.setdefault((pattern, group), asyncio.Lock()):
                place = self._places.get((pattern, group), 0)
                async with self._stored:
                    await self._stored.wait_for(lambda place=place: len(self.events) > place)  # type: ignore[misc]
                if matches(pattern, self.events[place][0]):
                    await self._handle(place, group, handler)
                self._places[pattern, group] = place + 1

    async def _handle(self, place: int, group: str, handler: Handler) -> None:
        subject, payload, id, _ = self.events[place]
        attempt = 1
        while True:
            try:
                await handler(Delivery(subject, payload, id, place + 1, attempt))
            except Exception:
                log.warning("the handler of %s failed on %s, trying again", group, id, exc_info=True)
                attempt += 1
                await asyncio.sleep(RETRY_PAUSE)
            else:
                return


class MemorySubscription:
    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject matches a NATS pattern (`*` one token, `>` the rest)."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)
