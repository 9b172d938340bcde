"""Quotas: what callers may still ask in the whole fleet.

A quota is in the memory of the one process that owns it. What a crash forgets, it forgets for one
burst; a write for each slice would cost more than the limit protects.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.rate_limits import QUOTA_TYPE, Taken
from aidevos.security.gcra import Gcra, Policy


class QuotaState(msgspec.Struct):
    """Nothing of a quota is stored."""


class QuotaDO(BaseDurableObject[QuotaState], type=QUOTA_TYPE, management="read_only", internal=True):
    """One caller's use of one policy."""

    def __init__(self, id: str, state: QuotaState) -> None:
        super().__init__(id, state)
        self._policy = Policy(1)
        self._used = Gcra(self._policy)

    @command(allow=services(), confidential=True)
    async def take(self, wanted: int, rate: int, window: float, burst: int) -> Taken:
        """Spend so many requests, or those that are left."""
        policy = Policy(rate, window, burst)
        if policy != self._policy:
            self._policy, self._used = policy, Gcra(policy)
        taken = self._used.take(self.now, wanted)
        return Taken(
            taken, self._used.remaining(self.now), self._used.reset_after(self.now), self._used.retry_after(self.now)
        )
