"""Times as they appear in messages: RFC 3339 in UTC, in whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def timestamp(now: float) -> datetime:
    """Return the time `now` (seconds since the epoch) in UTC and whole milliseconds, as MongoDB stores it."""
    return datetime.fromtimestamp(int(now * 1000) / 1000, UTC)


def rfc3339(moment: datetime) -> str:
    """Return a time as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_of(now: float) -> str:
    """Return the time `now` (seconds since the epoch) as text."""
    milliseconds = int(now * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=10_000)
def _second(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat().removesuffix("+00:00")
