"""The last events of the stream, in memory: what most readers who come back have missed.

Promise: everything behind `start` is here, each event once, in the order of the stream.
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


class Repeats:
    """The IDs of the last events: what a bus delivers twice is known by them."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, id: str) -> bool:
        """Whether the event came for the first time; it is known from then on."""
        if id in self._ids:
            return False
        self._ids[id] = None
        if len(self._ids) > MAX_IDS:
            self._ids.popitem(last=False)
        return True


class Window:
    """Positions behind `start`, up to `end`."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self._events: list[LiveEvent] = []
        self._bytes = 0

    def add(self, position: int, event: LiveEvent | None) -> None:
        """The next position, and what is shown there, if anything."""
        self.end = position
        if event is None:
            return
        self._events.append(event)
        self._bytes += len(event.frame)
        if len(self._events) > MAX_EVENTS or self._bytes > MAX_BYTES:
            self._forget()

    def after(self, position: int, wanted: EventFilter, count: int, size: int) -> tuple[list[LiveEvent], int | None]:
        """What is wanted behind a position that is not before `start`: about so many events or bytes, and the
        position up to which that is all; None when it is all that there is."""
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
        """Forget a quarter at once, since forgetting moves what is left."""
        count = max(1, len(self._events) // 4)
        gone, self._events = self._events[:count], self._events[count:]
        self._bytes -= sum(len(event.frame) for event in gone)
        self.start = gone[-1].position
