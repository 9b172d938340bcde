"""The part of the API's description that is about webhooks, and what their receivers get."""

from __future__ import annotations

from typing import get_args

from aidevos.contracts import subjects, webhooks

from .bodies import MERGE_PATCH
from .openapi_parts import (
    ETAG,
    LOCATION,
    UNCHANGED,
    Json,
    Section,
    content,
    given,
    parameter,
    reference,
    schemas_of,
    sent,
)

TAG: Json = {"name": "webhooks", "description": "Events as HTTP requests to addresses of one's own"}
HOOKS = Section("webhooks", "Needs `webhooks:self`, and for others' webhooks `webhooks:manage`.")
SHOWN: Json = {"200": content("The webhook", reference("WebhookInfo"), ETAG)}
DELIVERY = content("The delivery", reference("DeliveryInfo"), ETAG)


def schemas() -> Json:
    return schemas_of(
        webhooks.WebhookBody,
        webhooks.RotateSecretBody,
        webhooks.WebhookPage,
        webhooks.NewWebhook,
        webhooks.DeliveryPage,
        webhooks.TestSent,
    )


def parameters() -> Json:
    status = parameter("status", "query", None, "Only deliveries of which this is so")
    sort = parameter("sort", "query", None, "By time, with a minus (the default) the newest first")
    return {
        "webhook_id": parameter("webhook_id", "path", f"^{subjects.ID_PATTERN}$", "A webhook's ID"),
        "delivery_id": parameter("delivery_id", "path", f"^{subjects.ID_PATTERN}$", "A delivery's ID"),
        "webhook_owner": parameter("owner", "query", "^.{0,128}$", "Only this user's, for `webhooks:manage`"),
        "delivery_status": status | {"schema": {"type": "string", "enum": list(get_args(webhooks.Status))}},
        "delivery_sort": sort | {"schema": {"type": "string", "enum": ["at", "-at"]}},
    }


def paths() -> Json:
    webhook, delivery = "/webhooks/{webhook_id}", "/webhooks/{webhook_id}/deliveries/{delivery_id}"
    page = {"200": content("One page", reference("WebhookPage"))}
    made = {"201": content("The webhook, its secret shown this once", reference("NewWebhook"), ETAG | LOCATION)}
    rotated = {"200": content("The webhook, its secret shown this once", reference("NewWebhook"), ETAG)}
    return {
        "/webhooks": {
            "get": HOOKS.reading(
                "list_webhooks", "List webhooks", page, ("limit", "cursor", "webhook_owner", "Deadline")
            ),
            "post": HOOKS.changing(
                "create_webhook",
                "Make a webhook",
                made,
                reference("WebhookBody"),
                ("Idempotency-Key", "Deadline"),
                "Needs `webhooks:self`. It gets the events that its owner may see.",
            ),
        },
        webhook: {
            **given("webhook_id"),
            "get": HOOKS.reading("read_webhook", "Show a webhook", SHOWN | UNCHANGED),
            "patch": HOOKS.changing("change_webhook", "Change a webhook by a merge patch (RFC 7396)", SHOWN)
            | sent({"type": "object"}, MERGE_PATCH),
            "delete": HOOKS.changing(
                "delete_webhook", "End a webhook and its log", {"204": {"description": "The webhook is gone"}}
            ),
        },
        f"{webhook}/rotate-secret": {
            **given("webhook_id"),
            "post": HOOKS.changing("rotate_webhook_secret", "Make another secret in a secret's place", rotated)
            | sent(reference("RotateSecretBody"), required=False),
        },
        f"{webhook}/test": {
            **given("webhook_id"),
            "post": HOOKS.changing(
                "test_webhook",
                f"Send an event of the type `{webhooks.TEST}`",
                {"202": content("The delivery that was begun", reference("TestSent"))},
            ),
        },
        f"{webhook}/deliveries": {
            **given("webhook_id"),
            "get": HOOKS.reading(
                "list_deliveries",
                "List what was sent, or is to be",
                {"200": content("One page", reference("DeliveryPage"))},
                ("limit", "cursor", "delivery_status", "delivery_sort", "Deadline"),
            ),
        },
        delivery: {
            **given("webhook_id", "delivery_id"),
            "get": HOOKS.reading("read_delivery", "Show a delivery", {"200": DELIVERY} | UNCHANGED),
        },
        f"{delivery}/replay": {
            **given("webhook_id", "delivery_id"),
            "post": HOOKS.changing("replay_delivery", "Send an event once more", {"202": DELIVERY}),
        },
    }


def received() -> Json:
    """What receivers get, as OpenAPI's `webhooks` say it."""
    text = {"type": "string"}
    signed = {
        "webhook-id": "Of the delivery, the same for every attempt",
        "webhook-timestamp": "When it was sent, in seconds since the epoch",
        "webhook-signature": "`v1,<base64>`, several with spaces between while a secret is rotated",
    }
    event = {
        "type": "object",
        "description": "CloudEvents 1.0",
        "properties": {"id": text, "source": text, "type": text, "time": text, "data": {"type": "object"}},
        "required": ["id", "source", "type", "time", "data"],
    }
    return {
        "event": {
            "post": {
                "operationId": "receive_event",
                "tags": ["webhooks"],
                "summary": "An event, signed by Standard Webhooks",
                "parameters": [
                    {"name": name, "in": "header", "required": True, "description": about, "schema": text}
                    for name, about in signed.items()
                ],
                **sent(event),
                "responses": {
                    "2XX": {"description": "It has arrived"},
                    "410": {"description": "Nothing more is wanted: the webhook is made inactive"},
                    "default": {"description": "It is sent again later"},
                },
                "security": [],
            }
        }
    }
