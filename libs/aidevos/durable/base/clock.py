"""Time as the framework sees it: a parameter, so that tests move it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Wall time in seconds since the epoch: for people and for ages, never for who may write."""
        ...

    def elapsed(self) -> float:
        """Seconds on a clock that never goes back and counts suspension: for leases and deadlines."""
        ...


class SystemClock:
    """The machine's clocks; `elapsed` is CLOCK_BOOTTIME."""

    def now(self) -> float:
        return time.time()

    def elapsed(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class ManualClock:
    """A clock that only `advance` moves."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def elapsed(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
