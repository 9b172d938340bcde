"""The framework's clock. It is a parameter, so tests can move time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of wall time and of elapsed time."""

    def now(self) -> float:
        """Return wall time in seconds since the epoch. Use it for display and ages, never to decide who may write."""
        ...

    def elapsed(self) -> float:
        """Return seconds on a clock that never goes back and counts suspension. Use it for leases and deadlines."""
        ...


class SystemClock:
    """The machine's clocks; `elapsed` is CLOCK_BOOTTIME."""

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class ManualClock:
    """A clock for tests that stands still until `advance` is called."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def elapsed(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
