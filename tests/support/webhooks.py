"""Webhooks as the events service reads them, and the end of those that tests have made."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.webhooks import WebhookInfo
from tests.support.http import blocking_http_client
from tests.support.world import World


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
    with blocking_http_client(base_url=world.url, headers={"Authorization": world.admin}, timeout=30) as http:
        while found := http.get("/webhooks", params={"limit": 100}).raise_for_status().json()["items"]:
            for webhook in found:
                assert http.delete(f"/webhooks/{webhook['id']}").status_code in (204, 404)
