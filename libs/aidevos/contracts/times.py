"""Moments as they are on the wire: RFC 3339 in UTC, in whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def timestamp(now: float) -> datetime:
    """Return the moment so many seconds after the epoch, in UTC and whole milliseconds, as MongoDB keeps it."""
    return datetime.fromtimestamp(int(now * 1000) / 1000, UTC)


def rfc3339(moment: datetime) -> str:
    """Return a moment as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_of(now: float) -> str:
    """Return the moment so many seconds after the epoch as text."""
    milliseconds = int(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=10_000)
def _second(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat().removesuffix("+00:00")
