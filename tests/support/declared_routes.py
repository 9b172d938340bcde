"""Declarations of routes to counters."""

from __future__ import annotations

from typing import Any


def hit(shop: str, **changes: Any) -> dict[str, Any]:
    return {
        "method": "POST",
        "path": f"/{shop}/{{name}}/hit",
        "object_type": "counter",
        "object_id": "{name}",
        "object_method": "increment",
        "permission": "counter:write",
    } | changes


def value(shop: str, **changes: Any) -> dict[str, Any]:
    return hit(shop, method="GET", path=f"/{shop}/{{name}}", object_method="value", permission="counter:read") | changes
