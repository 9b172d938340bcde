"""The generic cell rate algorithm (ITU-T I.371): a limit that lets a burst through, then an even flow.

`rate` requests in `window` seconds: `burst` at once, then one each `window / rate` seconds. One number
is all that is kept: when the limit would be untouched again, its theoretical arrival time.
"""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    """`rate` requests in `window` seconds; `burst` of them at once, by default all."""

    rate: int
    window: float = 1.0
    burst: int = 0

    @property
    def interval(self) -> float:
        """Seconds between two requests of an even flow."""
        return self.window / self.rate

    @property
    def capacity(self) -> int:
        return self.burst or self.rate


class Gcra:
    """One caller's use of one policy; times are in seconds on one clock."""

    __slots__ = ("_policy", "_untouched_at")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._untouched_at = float("-inf")

    def take(self, now: float, wanted: int = 1) -> int:
        """Spend so many requests, or what is left; how many were spent."""
        taken = min(wanted, self.remaining(now))
        if taken:
            self._untouched_at = max(self._untouched_at, now) + taken * self._policy.interval
        return taken

    def remaining(self, now: float) -> int:
        """Requests that could be spent now."""
        used = max(0.0, self._untouched_at - now) / self._policy.interval
        # Times are sums of intervals: what a rounding error lacks of a whole request is none.
        return max(0, int(self._policy.capacity - used + 1e-6))

    def reset_after(self, now: float) -> float:
        """Seconds until the limit is untouched again."""
        return max(0.0, self._untouched_at - now)

    def retry_after(self, now: float) -> float:
        """Seconds until one request can be spent; 0 when it can be now."""
        spare = (self._policy.capacity - 1) * self._policy.interval
        return max(0.0, self._untouched_at - spare - now) if not self.remaining(now) else 0.0
