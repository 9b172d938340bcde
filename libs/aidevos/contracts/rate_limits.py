"""Rate limits: policies as an administrator sets them, and the messages of quotas."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos.contracts.api_keys import RateLimit
from aidevos.contracts.patterns import whole

TYPE = "rate_limits"
# There is one such object.
ID = "all"
CHANGED = f"event.{TYPE}.{ID}.changed"
MANAGE_LIMITS = "limits:manage"
QUOTA_TYPE = "quota"
# Every caller who is known, and whoever shows no credential, by address.
DEFAULT, ANONYMOUS = "default", "anonymous"

PolicyName = Annotated[str, Meta(pattern=whole("[a-z][a-z0-9_-]{0,47}"))]
Group = Annotated[str, Meta(pattern=whole("[a-z][a-z0-9_-]{0,47}"), description="A path's first part, or a type")]


class LimitPolicy(RateLimit, frozen=True, kw_only=True):
    """`burst` requests at once, by default `rate`, then `rate` in each `window` seconds. It counts for the
    requests to the paths and types that it `applies_to`, for each caller apart."""

    burst: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    applies_to: Annotated[list[Group], Meta(max_length=100)] = msgspec.field(default_factory=list)


Policies = Annotated[dict[PolicyName, LimitPolicy], Meta(max_length=100)]


class RateLimitsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `PUT /rate-limits`, and the arguments of `replace`. `default` and `anonymous` are as the
    settings say where they are not given."""

    policies: Policies


class RateLimits(msgspec.Struct, kw_only=True):
    """The policies that count; `version` is the ETag, 0 while nobody has set any."""

    policies: dict[str, LimitPolicy]
    version: int


class Taken(msgspec.Struct):
    """What a quota gave: so many requests, out of what was `remaining` after it; in `reset` seconds it is
    untouched again, and in `retry` seconds there is one more."""

    taken: int
    remaining: int
    reset: float
    retry: float
