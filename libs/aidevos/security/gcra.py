"""The generic cell rate algorithm (ITU-T I.371): a limit that allows a burst, then an even flow.

With `rate` requests in `window` seconds, `burst` requests may come at once, then one every `window /
rate` seconds. The only state is the theoretical arrival time: the moment when the limit is full again.
A charge may overdraw the limit; then nothing can be spent until the flow has made up for it.

Promise: when the clock is set back, the limit goes on as if no time had passed. When it is set forward, at most one
burst is gained.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Policy(NamedTuple):
    """A limit of `rate` requests in `window` seconds; `burst` of them may come at once, by default all."""

    rate: int
    window: float = 1.0
    burst: int = 0

    @property
    def interval(self) -> float:
        """The seconds between two requests in an even flow."""
        return self.window / self.rate

    @property
    def capacity(self) -> int:
        return self.burst or self.rate


class Gcra:
    """One caller's use of one policy; all times are in seconds on the same clock."""

    __slots__ = ("_full_at", "_policy", "_seen")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._full_at = self._seen = float("-inf")

    def take(self, now: float, wanted: int = 1) -> int:
        """Spend up to `wanted` requests and return how many were spent."""
        self._follow(now)
        taken = max(0, min(wanted, self.remaining(now)))
        self.charge(now, taken)
        return taken

    def charge(self, now: float, cost: int) -> None:
        """Spend this many requests, even if that overdraws the limit."""
        self._follow(now)
        if cost:
            self._full_at = max(self._full_at, now) + cost * self._policy.interval

    def _follow(self, now: float) -> None:
        """Move with a clock that was set back."""
        if now < self._seen:
            self._full_at -= self._seen - now
        self._seen = now

    def remaining(self, now: float) -> int:
        """Return how many requests can be spent now, or a negative number if the limit is overdrawn."""
        used = max(0.0, self._full_at - now) / self._policy.interval
        # Times are sums of intervals, so a rounding error must not cost a whole request.
        return math.floor(self._policy.capacity - used + 1e-6)

    def reset_after(self, now: float) -> float:
        """Return the seconds until the limit is full again."""
        return max(0.0, self._full_at - now)

    def retry_after(self, now: float) -> float:
        """Return the seconds until one request can be spent, 0 if one can be spent now."""
        spare = (self._policy.capacity - 1) * self._policy.interval
        return max(0.0, self._full_at - spare - now) if self.remaining(now) <= 0 else 0.0
