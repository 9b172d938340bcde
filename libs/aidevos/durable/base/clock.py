"""Time as the framework sees it: a parameter, so that tests move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
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


def timestamp(now: float) -> datetime:
    """The moment as MongoDB keeps it: UTC, whole milliseconds."""
    return datetime.fromtimestamp(int(now * 1000) / 1000, UTC)


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_of(now: float) -> str:
    """The moment so many seconds after the epoch."""
    milliseconds = int(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=10_000)
def _second(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat().removesuffix("+00:00")
