"""`/rate-limits`: how often callers may ask."""

from __future__ import annotations

from aidevos.contracts import rate_limits
from aidevos.contracts.rate_limits import RateLimits, RateLimitsBody

from .api_router import APIRouter
from .operation import Target, get, put

LIMITS = "/rate-limits"
POLICIES = Target(rate_limits.TYPE, lambda request, body: rate_limits.ID)
SOON = "They count everywhere within a second."


class RateLimitRouter(APIRouter):
    tag = "rate-limits"
    about = "How often callers may ask"
    permission = rate_limits.MANAGE_LIMITS
    body_limit = 256 * 1024
    rows = (
        get(LIMITS, "read_rate_limits", "Show the rate limits", POLICIES, RateLimits),
        put(LIMITS, "replace_rate_limits", "Set the rate limits", POLICIES, RateLimits, RateLimitsBody, about=SOON),
    )
