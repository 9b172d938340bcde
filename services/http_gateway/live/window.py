"""The latest events of the stream, in memory: most returning readers missed only these.

Promise: all events after `start` are here, each once, in the stream's order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from operator import attrgetter

from .event_filter import EventFilter
from .events import LiveEvent

MAX_EVENTS = 10_000
MAX_BYTES = 32 * 1024 * 1024
MAX_IDS = 20_000


class SeenIds:
    """The IDs of the latest events, which reveal repeated deliveries."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, id: str) -> bool:
        """Record an event's ID and return True if it is new."""
        if id in self._ids:
            return False
        self._ids[id] = None
        if len(self._ids) > MAX_IDS:
            self._ids.popitem(last=False)
        return True


class Window:
    """The events at the positions after `start`, up to `end`."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self._events: list[LiveEvent] = []
        self._bytes = 0

    def add(self, position: int, event: LiveEvent | None) -> None:
        """Add the next position with its event, or None if nothing is shown there."""
        self.end = position
        if event is None:
            return
        self._events.append(event)
        self._bytes += len(event.frame)
        if len(self._events) > MAX_EVENTS or self._bytes > MAX_BYTES:
            self._forget()

    def after(self, position: int, wanted: EventFilter, count: int, size: int) -> tuple[list[LiveEvent], int | None]:
        """Return the events after a position, which must not be before `start`, that pass the filter.

        About `count` events or `size` bytes are returned, with the position up to which they are
        complete, or None if nothing is left.
        """
        found: list[LiveEvent] = []
        for index in range(bisect_right(self._events, position, key=attrgetter("position")), len(self._events)):
            event = self._events[index]
            if wanted.matches(event):
                found.append(event)
                size -= len(event.frame)
                if len(found) >= count or size <= 0:
                    return found, event.position
        return found, None

    def _forget(self) -> None:
        """Drop a quarter of the events at once, since dropping moves all the others."""
        count = max(1, len(self._events) // 4)
        gone, self._events = self._events[:count], self._events[count:]
        self._bytes -= sum(len(event.frame) for event in gone)
        self.start = gone[-1].position
