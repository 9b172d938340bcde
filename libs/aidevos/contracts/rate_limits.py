"""Rate limits: the policies that an administrator sets, and the messages of quotas."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.api_keys import RateLimit
from aidevos.contracts.patterns import whole

TYPE = "rate_limits"
# The ID of the only object of this type.
ID = "all"
CHANGED = f"event.{TYPE}.{ID}.changed"
MANAGE_LIMITS = "limits:manage"
QUOTA_TYPE = "quota"
# The policies for known callers, and for each address of callers without a credential.
DEFAULT, ANONYMOUS = "default", "anonymous"

PolicyName = Annotated[str, Meta(pattern=whole("[a-z][a-z0-9_-]{0,47}"))]
Group = Annotated[
    str, Meta(pattern=whole("[a-z][a-z0-9_-]{0,47}"), description="The first segment of a path, or a type")
]


class LimitPolicy(RateLimit, frozen=True, kw_only=True):
    """A rate limit with a burst, counted separately for each caller.

    It allows `burst` requests at once (by default `rate`), then `rate` requests in `window` seconds,
    for the paths and types that it `applies_to`.
    """

    burst: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    applies_to: Annotated[list[Group], Meta(max_length=100)] = msgspec.field(default_factory=list)


Policies = Annotated[dict[PolicyName, LimitPolicy], Meta(max_length=100)]


class RateLimitsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `PUT /rate-limits`, and the arguments of `replace`.

    If `default` or `anonymous` is missing, the settings apply.
    """

    policies: Policies


class RateLimits(msgspec.Struct, kw_only=True):
    """The policies in force; `version` is the ETag, 0 if none were ever set."""

    policies: dict[str, LimitPolicy]
    version: int


def quota_id(policy: str, spender: str) -> str:
    """Return the ID of the quota of one spender under one policy."""
    return subjects.id_from_name(QUOTA_TYPE, f"{policy} {spender}")


def address_spender(address: str) -> str:
    """Return the spender for callers without a credential at this address."""
    return f"address {address}"


def address_quota(address: str) -> str:
    """Return the ID of the quota of callers without a credential at this address."""
    return quota_id(ANONYMOUS, address_spender(address))


class TakeArgs(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The arguments of a quota's `take`.

    `wanted` are the requests to grant under the policy of the other fields. `overdrawn` are those that a process has
    already admitted beyond what it was granted.
    """

    wanted: int
    rate: int
    window: float
    burst: int
    overdrawn: int = 0


class QuotaSlice(msgspec.Struct):
    """The requests that a quota granted: `taken` now, with `remaining` left afterwards.

    The quota is full again in `reset` seconds, and allows one more request in `retry` seconds. `remaining` is negative
    if it is overdrawn.
    """

    taken: int
    remaining: int
    reset: float
    retry: float
