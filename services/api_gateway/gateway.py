"""The gateway's own object: the rate-limit policies, and the table of routes.

Promise: every change of the policies emits an event, after which each process reads all policies again.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Event, Failure, command, permission, query, services
from aidevos.contracts.rate_limits import ANONYMOUS, DEFAULT, ID, MANAGE_LIMITS, TYPE, LimitPolicy, Policies, RateLimits
from aidevos.contracts.routes import MANAGE_ROUTES, SEARCH, FindRoutes
from aidevos.queries import Search
from aidevos.security.audit import record

from .route_table import ORDER, find, show


class RateLimitsState(msgspec.Struct):
    policies: dict[str, LimitPolicy] = {}


class Changed(Event):
    """The policies have changed."""


class APIGatewayDO(BaseDurableObject[RateLimitsState], type=TYPE, management="read_only"):
    """The fleet's policies; the only object is `rate_limits:all`."""

    # Each route is a separate object; this search lists them.
    route_table = Search(SEARCH, permission(MANAGE_ROUTES) | services(), FindRoutes, find, show, (ORDER,))

    @query(allow=permission(MANAGE_LIMITS) | services())
    async def read(self) -> RateLimits:
        """Return the policies that were set."""
        return RateLimits(policies=self.state.policies, version=self.version)

    @command(allow=permission(MANAGE_LIMITS))
    async def replace(self, policies: Policies) -> RateLimits:
        """Set the policies, which apply everywhere within a second."""
        if self.id != ID:
            raise Failure("not-found", f"the only object of this type is {TYPE}:{ID}")
        groups = [group for policy in policies.values() for group in policy.applies_to]
        twice = {group for group in groups if groups.count(group) > 1}
        if twice:
            raise Failure("invalid", f"two policies apply to {min(twice)}", field="args.policies")
        for name in (DEFAULT, ANONYMOUS):
            if name in policies and policies[name].applies_to:
                raise Failure(
                    "invalid",
                    f"{name} applies to everything that no other policy covers",
                    field=f"args.policies.{name}.applies_to",
                )
        self.state.policies = policies
        self.emit(Changed())
        record(self, "rate_limits.changed", target=self.id)
        return RateLimits(policies=policies, version=self.version + 1)
