"""Simulated time: it jumps from one event to the next."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Timeline:
    """Runs what is due, in order of time. Times are in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time, next(self._numbers), act))

    def after(self, pause: float, act: Callable[[], None]) -> None:
        self.at(self.now + pause, act)

    def run(self, until: float) -> None:
        """Run until a time has come, or nothing is due."""
        while self._due and self._due[0][0] <= until:
            self.now, _, act = heapq.heappop(self._due)
            act()
