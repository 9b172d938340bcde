"""The part of the API's description that is about rate limits."""

from __future__ import annotations

from aidevos.contracts import rate_limits

from .openapi_parts import CHANGE, COMMON, ETAG, Json, content, operation, reference, schemas_of

TAG: Json = {"name": "rate-limits", "description": "How often callers may ask"}
SHOWN: Json = {"200": content("The policies that were set", reference("RateLimits"), ETAG)}


def schemas() -> Json:
    return schemas_of(rate_limits.RateLimits, rate_limits.RateLimitsBody)


def parameters() -> Json:
    return {}


def paths() -> Json:
    return {
        "/rate-limits": {
            "get": operation(
                "read_rate_limits",
                "rate-limits",
                "Show the rate limits",
                SHOWN,
                COMMON,
                parameters=("Deadline",),
                description="Needs `limits:manage`.",
            ),
            "put": operation(
                "replace_rate_limits",
                "rate-limits",
                "Set the rate limits",
                SHOWN,
                CHANGE,
                parameters=("If-Match", "Deadline"),
                body=reference("RateLimitsBody"),
                description="Needs `limits:manage`. They count everywhere within a second.",
            ),
        }
    }
