"""Webhooks as the events service reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.webhooks import WebhookInfo


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
