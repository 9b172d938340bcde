"""The events that every process of a fleet follows: revocations and changes of configuration."""

from __future__ import annotations

from aidevos.contracts import access_tokens, api_keys, authentication, rate_limits, roles, routes, users

FLEET_EVENTS = (
    authentication.SESSION_ENDED,
    users.ACCESS_CHANGED,
    api_keys.CHANGED,
    access_tokens.REVOKED,
    rate_limits.CHANGED,
    roles.CHANGED,
    routes.CHANGED,
)
