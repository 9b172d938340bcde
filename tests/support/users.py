"""Helpers that check how soon an administrator's change to a user takes effect."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from aidevos.contracts.errors import Failure
from tests.support.logins import bearer
from tests.support.world import NatsEntryPoint

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


async def allowed(http: httpx2.AsyncClient, over_nats: NatsEntryPoint, pair: dict[str, Any]) -> dict[str, bool]:
    """Return, for HTTP and for NATS, if the access token may search users."""
    answer = await http.get("/users?limit=1", headers=bearer(pair))
    assert answer.status_code in (200, 403), answer.text
    try:
        await over_nats.query("user", "search", {"limit": 1}, authorization=bearer(pair)["Authorization"])
    except Failure as failure:
        return {"http": answer.is_success, "nats": failure.code != "forbidden"}
    return {"http": answer.is_success, "nats": True}


async def wait_for_access(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, pair: dict[str, Any], expected: dict[str, bool]
) -> None:
    async with asyncio.timeout(1):
        while await allowed(http, over_nats, pair) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
