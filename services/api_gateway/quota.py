"""Quotas: the requests that a caller, or the attempts that an address, may still make in the whole fleet.

The use of a quota is only in the memory of the process that owns it: an object without a state is stored once. A crash
or a handoff forgives at most one burst or window; a write for each request would cost more than the limit protects.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.rate_limits import QUOTA_TYPE, QuotaSlice
from aidevos.security.gcra import Gcra, Policy
from aidevos.security.throttle import Throttle


class QuotaState(msgspec.Struct):
    """No state: what is used is never stored."""


class QuotaDO(BaseDurableObject[QuotaState], type=QUOTA_TYPE, management="read_only", internal=True):
    """One caller's use of one policy, and the attempts of one address."""

    def __init__(self, id: str, state: QuotaState) -> None:
        super().__init__(id, state)
        self._policy = Policy(1)
        self._used = Gcra(self._policy)
        self._attempts: defaultdict[str, list[float]] = defaultdict(list)

    @command(allow=services(), confidential=True)
    async def take(self, wanted: int, rate: int, window: float, burst: int, overdrawn: int = 0) -> QuotaSlice:
        """Charge what is `overdrawn`, and spend up to `wanted` requests; fewer if fewer remain."""
        policy = Policy(rate, window, burst)
        if policy != self._policy:
            self._policy, self._used = policy, Gcra(policy)
        self._used.charge(self.now, overdrawn)
        taken = self._used.take(self.now, wanted)
        return QuotaSlice(
            taken, self._used.remaining(self.now), self._used.reset_after(self.now), self._used.retry_after(self.now)
        )

    @command(allow=services(), confidential=True)
    async def attempt(self, kind: str, limit: int, window: float) -> float:
        """Count an attempt of this kind, if there were fewer than `limit` in the last `window` seconds.

        Return 0, or the seconds until the next attempt can be counted.
        """
        throttle = Throttle(limit, window, kind, self._attempts[kind])
        wait = throttle.wait(self.now)
        if not wait:
            throttle.count(self.now)
        return wait
