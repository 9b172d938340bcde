"""The last events of the stream, in memory: what most readers who come back have missed.

Promise: everything behind `start` is here, each event once, in the order of the stream.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from operator import attrgetter

from services.http_gateway.live.events import LiveEvent

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

    def __init__(self, start: int, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self.start = start
        self.end = start
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[LiveEvent] = []
        self._bytes = 0

    def add(self, event: LiveEvent) -> None:
        self.end = event.position
        self._events.append(event)
        self._bytes += len(event.frame)
        if len(self._events) > self._max_events or self._bytes > self._max_bytes:
            self._forget()

    def after(self, position: int) -> list[LiveEvent]:
        """The events behind a position, which is not before `start`."""
        return self._events[bisect_right(self._events, position, key=attrgetter("position")) :]

    def _forget(self) -> None:
        """Forget a quarter at once, since forgetting moves what is left."""
        count = max(1, len(self._events) // 4)
        gone, self._events = self._events[:count], self._events[count:]
        self._bytes -= sum(len(event.frame) for event in gone)
        self.start = gone[-1].position
