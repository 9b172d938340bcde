"""The busiest objects of a process: those that have had the most turns of late.

Promise: turns are counted only while somebody asks for the busiest objects, and for a moment afterwards. Otherwise they
cost nothing. At most `CAPACITY` objects are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import nlargest

from aidevos.contracts.fleet import BusyObject
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.request import Request

Start = Callable[[Activation, Request], "asyncio.Task[None] | None"]
# Seconds over which turns are counted, and after which counting ends if nobody has asked again.
WINDOW, LINGER = 2.0, 15.0
CAPACITY = 10_000
SHOWN = 20


class TurnCounter:
    """Begins turns with `start`, which counts them while somebody asks."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self.start = start
        self._counts: dict[str, int] = {}
        self._since = 0.0
        self._latest: list[BusyObject] = []
        self._end: asyncio.TimerHandle | None = None

    def find_busiest(self) -> list[BusyObject]:
        """Return the objects with the most turns per second in the latest window, and go on counting.

        The first answers after a pause are empty.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._end is None:
            self.start, self._since = self._count_and_start, now
        else:
            self._end.cancel()
        self._end = loop.call_later(LINGER, self._stop)
        if now - self._since >= WINDOW:
            self._latest = self._rank(now - self._since)
            self._counts, self._since = {}, now
        return self._latest

    def _rank(self, seconds: float) -> list[BusyObject]:
        busiest = nlargest(SHOWN, self._counts.items(), key=lambda found: found[1])
        return [BusyObject(object_id, count / seconds) for object_id, count in busiest]

    def _stop(self) -> None:
        self.start, self._end = self._start, None
        self._counts, self._latest = {}, []

    def _count_and_start(self, activation: Activation, request: Request) -> asyncio.Task[None] | None:
        counts, object_id = self._counts, activation.object_id
        if object_id in counts:
            counts[object_id] += 1
        elif len(counts) < CAPACITY:
            counts[object_id] = 1
        return self._start(activation, request)
