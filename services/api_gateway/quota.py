"""Quotas: the requests that a caller may still make, in the whole fleet.

A quota lives only in the memory of the process that owns it. A crash forgives at most one burst; a
write for each request would cost more than the limit protects.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.rate_limits import QUOTA_TYPE, QuotaSlice
from aidevos.security.gcra import Gcra, Policy


class QuotaState(msgspec.Struct):
    """No state: a quota is never stored."""


class QuotaDO(BaseDurableObject[QuotaState], type=QUOTA_TYPE, management="read_only", internal=True):
    """One caller's use of one policy."""

    def __init__(self, id: str, state: QuotaState) -> None:
        super().__init__(id, state)
        self._policy = Policy(1)
        self._used = Gcra(self._policy)

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
