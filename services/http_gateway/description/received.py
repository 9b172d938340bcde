"""What receivers of webhooks get, as OpenAPI's `webhooks` say it."""

from __future__ import annotations

from typing import Any

from aidevos.contracts.envelope import JSON

_TEXT = {"type": "string"}
_SIGNED = {
    "webhook-id": "Of the delivery, the same for every attempt",
    "webhook-timestamp": "When it was sent, in seconds since the epoch",
    "webhook-signature": "`v1,<base64>`, several with spaces between while a secret is rotated",
}
_SCHEMA = {
    "type": "object",
    "description": "CloudEvents 1.0",
    "properties": {"id": _TEXT, "source": _TEXT, "type": _TEXT, "time": _TEXT, "data": {"type": "object"}},
    "required": ["id", "source", "type", "time", "data"],
}
EVENT: dict[str, Any] = {
    "event": {
        "post": {
            "operationId": "receive_event",
            "tags": ["webhooks"],
            "summary": "An event, signed by Standard Webhooks",
            "parameters": [
                {"name": name, "in": "header", "required": True, "description": about, "schema": _TEXT}
                for name, about in _SIGNED.items()
            ],
            "requestBody": {"required": True, "content": {JSON: {"schema": _SCHEMA}}},
            "responses": {
                "2XX": {"description": "It has arrived"},
                "410": {"description": "Nothing more is wanted: the webhook is made inactive"},
                "default": {"description": "It is sent again later"},
            },
            "security": [],
        }
    }
}
