"""The in-memory event bus, for unit tests. It keeps the contract of `port.EventBus`, as JetStream does.

It guards the order, so it refuses a repeated publish with `OrderConflict` and doesn't compare IDs. A group handles one
event at a time, whatever `at_once` is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.delivering import handle_delivery, matches, publish_one_by_one
from aidevos.durable.bus.port import AT_ONCE, ATTEMPTS, Bury, Delivery, Event, Handler, OrderConflict, PositionLost

# Retries must not slow tests down.
MAX_PAUSE = 0.01


class Published(NamedTuple):
    """A stored event."""

    subject: str
    payload: bytes
    id: str
    number: int


class MemoryBus:
    """An `EventBus` in memory. `events` holds everything that was published.

    Tests set `lost_before` to the time before which events count as lost, in seconds since the epoch.
    """

    guards_order = True

    def __init__(self) -> None:
        self.events: list[Published] = []
        self.lost_before = 0.0
        self._times: list[float] = []
        self._groups: dict[tuple[str, str], deque[Delivery]] = {}
        self._selected: dict[tuple[str, str], Sequence[str]] = {}
        self._delivering: dict[tuple[str, str], asyncio.Lock] = {}
        self._changed = asyncio.Condition()

    async def read_last(self, scope: str) -> tuple[int, int]:
        for index in range(len(self.events) - 1, -1, -1):
            if matches(scope, self.events[index].subject):
                return index + 1, self.events[index].number
        return 0, 0

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        if (await self.read_last(scope))[0] != after:
            raise OrderConflict
        self.events.append(Published(subject, payload, id, number))
        self._times.append(time.time())
        for (pattern, group), waiting in self._groups.items():
            if any(matches(wanted, subject) for wanted in self._selected.get((pattern, group), [pattern])):
                waiting.append(Delivery(subject, payload, id))
        sequence = len(self.events)
        await self._notify()
        return sequence

    async def publish_batch(self, events: Sequence[Event]) -> list[int | Exception]:
        return await publish_one_by_one(self.publish, events)

    async def subscribe(
        self,
        pattern: str,
        group: str,
        handler: Handler,
        bury: Bury,
        *,
        attempts: int = ATTEMPTS,
        at_once: int = AT_ONCE,
        only: Sequence[str] | None = None,
    ) -> MemorySubscription:
        await self.select(pattern, group, [pattern] if only is None else only)
        waiting = self._groups.setdefault((pattern, group), deque())
        lock = self._delivering.setdefault((pattern, group), asyncio.Lock())
        active = asyncio.Event()
        active.set()
        return MemorySubscription(
            asyncio.create_task(self._deliver(waiting, lock, active, handler, bury, attempts)), active
        )

    async def select(self, pattern: str, group: str, wanted: Sequence[str]) -> None:
        self._selected[pattern, group] = wanted

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        self._groups.setdefault((pattern, group), deque()).append(delivery._replace(attempt=1))
        await self._notify()

    async def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        end = len(self.events)
        place = int(after) if after else end
        if place > end:
            raise PositionLost
        if since is not None and not after:
            place = next((index for index, at in enumerate(self._times) if at >= since), end)
        while True:
            if place == end:
                yield None
            async with self._changed:
                await self._changed.wait_for(lambda place=place: len(self.events) > place)  # type: ignore[misc]
            event, place = self.events[place], place + 1
            if any(matches(pattern, event.subject) for pattern in patterns):
                yield Delivery(event.subject, event.payload, event.id, position=str(place))

    @property
    def is_idle(self) -> bool:
        """True if every group has handled all its events."""
        return not any(self._groups.values())

    async def find_end(self, patterns: Sequence[str]) -> str:
        return str(len(self.events))

    async def complete_since(self, patterns: Sequence[str]) -> float:
        return self.lost_before

    async def close(self) -> None:
        """Do nothing: the bus holds no resources."""

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _deliver(
        self,
        waiting: deque[Delivery],
        lock: asyncio.Lock,
        active: asyncio.Event,
        handler: Handler,
        bury: Bury,
        attempts: int,
    ) -> None:
        while True:
            await active.wait()
            async with lock:
                async with self._changed:
                    await self._changed.wait_for(lambda: waiting)
                if not active.is_set():
                    continue
                pause = await handle_delivery(waiting[0], handler, bury, attempts)
                if pause is None:
                    waiting.popleft()
                    continue
                waiting[0] = waiting[0]._replace(attempt=waiting[0].attempt + 1)
                await asyncio.sleep(min(pause, MAX_PAUSE))


class MemorySubscription:
    """One member of a group."""

    def __init__(self, task: asyncio.Task[None], active: asyncio.Event) -> None:
        self._task = task
        self._active = active

    async def pause(self) -> None:
        self._active.clear()

    async def resume(self) -> None:
        self._active.set()

    async def close(self) -> None:
        await cancel_and_wait([self._task])
