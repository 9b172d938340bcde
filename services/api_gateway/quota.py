"""Quotas: what callers may still ask in the whole fleet, and the policies that an administrator sets.

A quota is in the memory of the one process that owns it. What a crash forgets, it forgets for one
burst; a write for each slice would cost more than the limit protects.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Event, Failure, command, permission, query, services
from aidevos.contracts.rate_limits import (
    ANONYMOUS,
    DEFAULT,
    ID,
    MANAGE_LIMITS,
    QUOTA_TYPE,
    TYPE,
    LimitPolicy,
    Policies,
    RateLimits,
    Taken,
)
from aidevos.security.audit import record
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


class RateLimitsState(msgspec.Struct):
    policies: dict[str, LimitPolicy] = {}


class Changed(Event):
    """Other policies count."""


class RateLimitsDO(BaseDurableObject[RateLimitsState], type=TYPE, management="read_only"):
    """The policies of the fleet; there is one such object, `rate_limits:all`."""

    @query(allow=permission(MANAGE_LIMITS) | services())
    async def read(self) -> RateLimits:
        """The policies that were set."""
        return RateLimits(policies=self.state.policies, version=self.version)

    @command(allow=permission(MANAGE_LIMITS))
    async def replace(self, policies: Policies) -> RateLimits:
        """Let these policies count, everywhere within a second."""
        if self.id != ID:
            raise Failure("not-found", f"the rate limits are the object {TYPE}:{ID}")
        groups = [group for policy in policies.values() for group in policy.applies_to]
        twice = {group for group in groups if groups.count(group) > 1}
        if twice:
            raise Failure("invalid", f"two policies apply to {min(twice)}", field="args.policies")
        for name in (DEFAULT, ANONYMOUS):
            if name in policies and policies[name].applies_to:
                raise Failure("invalid", f"{name} applies to all else", field=f"args.policies.{name}.applies_to")
        self.state.policies = policies
        self.emit(Changed())
        record(self, "rate_limits.changed", target=self.id)
        return RateLimits(policies=policies, version=self.version + 1)
