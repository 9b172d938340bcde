"""The part of the API's description that is about webhooks, and what their receivers get."""

from __future__ import annotations

from typing import get_args

import msgspec

from aidevos.contracts import subjects, webhooks
from aidevos.contracts.envelope import JSON
from services.http_gateway.bodies import MERGE_PATCH
from services.http_gateway.openapi_parts import CHANGE, COMMON, ETAG, Json, content, operation, parameter, reference

TAG: Json = {"name": "webhooks", "description": "Events as HTTP requests to addresses of one's own"}
OWN = "Needs `webhooks:self`, and for others' webhooks `webhooks:manage`."
MADE_HEADERS = {**ETAG, "Location": {"schema": {"type": "string"}}}
UNCHANGED: Json = {"304": {"description": "Not modified", "headers": ETAG}}
SHOWN: Json = {"200": content("The webhook", reference("WebhookInfo"), ETAG)}
DELIVERY = content("The delivery", reference("DeliveryInfo"), ETAG)
CHANGING = ("Idempotency-Key", "If-Match", "Deadline")


def schemas() -> Json:
    types = (
        webhooks.WebhookBody,
        webhooks.RotateSecretBody,
        webhooks.WebhookPage,
        webhooks.NewWebhook,
        webhooks.DeliveryPage,
        webhooks.TestSent,
    )
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return found


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
    return {
        "/webhooks": {
            "get": operation(
                "list_webhooks",
                "webhooks",
                "List webhooks",
                {"200": content("One page", reference("WebhookPage"))},
                COMMON,
                parameters=("limit", "cursor", "webhook_owner", "Deadline"),
                description=OWN,
            ),
            "post": operation(
                "create_webhook",
                "webhooks",
                "Make a webhook",
                {"201": content("The webhook, its secret shown this once", reference("NewWebhook"), MADE_HEADERS)},
                CHANGE,
                parameters=("Idempotency-Key", "Deadline"),
                body=reference("WebhookBody"),
                description="Needs `webhooks:self`. It gets the events that its owner may see.",
            ),
        },
        webhook: _at("webhook_id")
        | {
            "get": _operation(
                "read_webhook", "Show a webhook", SHOWN | UNCHANGED, COMMON, ("If-None-Match", "Deadline")
            ),
            "patch": _operation("change_webhook", "Change a webhook by a merge patch (RFC 7396)", SHOWN)
            | {"requestBody": {"required": True, "content": {MERGE_PATCH: {"schema": {"type": "object"}}}}},
            "delete": _operation(
                "delete_webhook", "End a webhook and its log", {"204": {"description": "The webhook is gone"}}
            ),
        },
        f"{webhook}/rotate-secret": _at("webhook_id")
        | {
            "post": _operation(
                "rotate_webhook_secret",
                "Make another secret in a secret's place",
                {"200": content("The webhook, its secret shown this once", reference("NewWebhook"), ETAG)},
            )
            | {"requestBody": {"required": False, "content": {JSON: {"schema": reference("RotateSecretBody")}}}}
        },
        f"{webhook}/test": _at("webhook_id")
        | {
            "post": _operation(
                "test_webhook",
                f"Send an event of the type `{webhooks.TEST}`",
                {"202": content("The delivery that was begun", reference("TestSent"))},
            )
        },
        f"{webhook}/deliveries": _at("webhook_id")
        | {
            "get": _operation(
                "list_deliveries",
                "List what was sent, or is to be",
                {"200": content("One page", reference("DeliveryPage"))},
                COMMON,
                ("limit", "cursor", "delivery_status", "delivery_sort", "Deadline"),
            )
        },
        delivery: _at("webhook_id", "delivery_id")
        | {
            "get": _operation(
                "read_delivery", "Show a delivery", {"200": DELIVERY} | UNCHANGED, COMMON, ("If-None-Match", "Deadline")
            )
        },
        f"{delivery}/replay": _at("webhook_id", "delivery_id")
        | {"post": _operation("replay_delivery", "Send an event once more", {"202": DELIVERY})},
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
                "requestBody": {"required": True, "content": {JSON: {"schema": event}}},
                "responses": {
                    "2XX": {"description": "It has arrived"},
                    "410": {"description": "Nothing more is wanted: the webhook is made inactive"},
                    "default": {"description": "It is sent again later"},
                },
                "security": [],
            }
        }
    }


def _at(*names: str) -> Json:
    return {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in names]}


def _operation(
    operation_id: str,
    summary: str,
    responses: Json,
    failures: tuple[int, ...] = CHANGE,
    parameters: tuple[str, ...] = CHANGING,
) -> Json:
    return operation(operation_id, "webhooks", summary, responses, failures, parameters=parameters, description=OWN)
