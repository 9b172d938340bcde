"""The events and log lines about hosts that come and go, and partitions that move.

Promise: placement never waits for them, and their failure stops nothing. Moves of one type within `GATHER` seconds make
one event. Events wait in a bounded queue while the bus is down. Past the bound, or after `ATTEMPTS`, an event is
dropped, logged and counted. One host's events keep their order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from aidevos.contracts.placement_events import (
    HostJoined,
    HostLeft,
    PartitionsReleased,
    PartitionsTaken,
    PlacementEvent,
)
from aidevos.durable.base.backoff import FOLLOWING, Backoff
from aidevos.durable.bus.port import BusError, EventBus, OrderConflict
from aidevos.durable.client.fleet_events import publish_fleet_event
from aidevos.durable.turns.entries import next_number
from aidevos.observability.metrics import DROPPED_PLACEMENT_EVENTS

log = logging.getLogger(__name__)
Move = PartitionsTaken | PartitionsReleased
# Seconds in which moves of partitions are gathered.
GATHER = 0.2
MAX_WAITING = 1000
# Hosts that join together publish at the same time.
CONFLICT = Backoff(0.1, 0.1)
# Attempts to publish one event, of which those that failed for the bus are followed by pauses of up to a second.
ATTEMPTS = 30


class PlacementEvents:
    """Publishes what one incarnation of a host sees: that it joins and leaves, and what it owns.

    It may also see that another host of its service has left. `now` returns the seconds since the epoch.
    """

    def __init__(
        self,
        bus: EventBus,
        *,
        service: str,
        replica: int,
        incarnation: str,
        version: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._service = service
        self._replica = replica
        self._incarnation = incarnation
        self._version = version
        self._now = now
        self._recent: list[tuple[PlacementEvent, float]] = []
        self._closing: asyncio.TimerHandle | None = None
        self._waiting: asyncio.Queue[tuple[PlacementEvent, float]] = asyncio.Queue(MAX_WAITING)
        self._last = 0

    def host_joined(self) -> None:
        self._add(HostJoined(incarnation=self._incarnation, replica=self._replica, version=self._version))

    def host_left(self, incarnation: str = "", *, lost: bool = False) -> None:
        """Tell that a host has left, by default this one. `lost` means that its lease has ended before it did."""
        self._add(HostLeft(incarnation=incarnation or self._incarnation, reason="lost" if lost else "left"))

    def partitions_taken(self, type: str, partitions: Collection[int]) -> None:
        if partitions:
            self._add(PartitionsTaken(incarnation=self._incarnation, type=type, partitions=sorted(partitions)))

    def partitions_released(self, type: str, partitions: Collection[int]) -> None:
        if partitions:
            self._add(PartitionsReleased(incarnation=self._incarnation, type=type, partitions=sorted(partitions)))

    async def run(self) -> None:
        """Publish events until cancelled."""
        while True:
            event, at = await self._waiting.get()
            try:
                await self._publish(event, at)
            except Exception:
                log.exception("publishing a placement event failed")
                self._drop(event)
            finally:
                self._waiting.task_done()

    async def flush(self, within: float) -> None:
        """Return when all events are published or dropped, or after `within` seconds. `run` must be running."""
        self._close_batch()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), within)

    def _add(self, event: PlacementEvent) -> None:
        if not self._merge(event):
            self._recent.append((event, self._now()))
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(GATHER, self._close_batch)

    def _merge(self, event: PlacementEvent) -> bool:
        """Add the partitions to those of a recent event of the same kind. Return False if there is none."""
        for other, _ in reversed(self._recent):
            if not isinstance(event, Move) or not isinstance(other, Move):
                return False
            if other.type == event.type:
                if type(other) is type(event):
                    other.partitions = sorted({*other.partitions, *event.partitions})
                return type(other) is type(event)
        return False

    def _close_batch(self) -> None:
        """Log the recent events, and let them be published."""
        if self._closing is not None:
            self._closing.cancel()
        recent, self._recent, self._closing = self._recent, [], None
        for event, at in recent:
            level = logging.WARNING if isinstance(event, HostLeft) and event.reason == "lost" else logging.INFO
            log.log(level, "%s", _describe(event))
            try:
                self._waiting.put_nowait((event, at))
            except asyncio.QueueFull:
                self._drop(event)

    async def _publish(self, event: PlacementEvent, at: float) -> None:
        self._last = number = next_number(self._last, at)
        pauses = FOLLOWING.pauses()
        for _ in range(ATTEMPTS):
            try:
                await publish_fleet_event(
                    self._bus, self._service, event, origin=self._incarnation, number=number, at=at
                )
            except OrderConflict:
                # Another host of the service was faster.
                await asyncio.sleep(CONFLICT.pause(1))
            except BusError as error:
                log.warning("publishing a placement event failed, trying again: %s", error)
                await pauses.wait()
            else:
                return
        self._drop(event)

    def _drop(self, event: PlacementEvent) -> None:
        DROPPED_PLACEMENT_EVENTS.inc()
        log.error("dropped the placement event %s", event)


def _describe(event: PlacementEvent) -> str:
    match event:
        case HostJoined():
            return f"{event.incarnation} joined the fleet"
        case HostLeft():
            return f"{event.incarnation} left the fleet" + (": its lease was lost" if event.reason == "lost" else "")
        case PartitionsTaken():
            return f"{event.incarnation} owns {format_ranges(event.partitions)} of {event.type}"
        case PartitionsReleased():
            return f"{event.incarnation} released {format_ranges(event.partitions)} of {event.type}"


def format_ranges(partitions: Collection[int]) -> str:
    """Return the numbers of partitions in short form, such as "0-3, 7"."""
    ranges: list[list[int]] = []
    for each in sorted(partitions):
        if ranges and ranges[-1][1] == each - 1:
            ranges[-1][1] = each
        else:
            ranges.append([each, each])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
