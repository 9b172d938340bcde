"""Webhooks as the events service reads them, and the end of those that tests have made."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from aidevos.contracts.webhooks import WebhookInfo
from tests.support.http import blocking_http_client
from tests.support.world import World

# Seconds in which services answer again, and how many are asked at once.
WITHIN, AT_ONCE = 60.0, 8


def webhook(id: str, *events: str, **changed: Any) -> WebhookInfo:
    """Return a webhook of Ada's for these events. `changed` are fields that differ."""
    made = WebhookInfo(
        id=id,
        owner="ada",
        key="",
        url="https://example.org/",
        events=list(events),
        collections=[],
        projects=[],
        description="",
        active=True,
        disabled_reason="",
        failing_since=None,
        version=1,
        created_at="2026-11-01T00:00:00.000Z",
        updated_at="2026-11-01T00:00:00.000Z",
    )
    return msgspec.structs.replace(made, **changed)


def remove_webhooks(world: World) -> None:
    """Delete all webhooks. Each that stays would have every later event looked at, sent, and sent again."""
    end = time.monotonic() + WITHIN
    with blocking_http_client(base_url=world.url, headers={"Authorization": world.admin}, timeout=30) as http:
        # A service that a test has killed may answer late.
        while (listed := http.get("/webhooks", params={"limit": 100})).is_error or listed.json()["items"]:
            assert time.monotonic() < end, listed.text
            ids = [] if listed.is_error else [webhook["id"] for webhook in listed.json()["items"]]
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(lambda id: http.delete(f"/webhooks/{id}"), ids))
