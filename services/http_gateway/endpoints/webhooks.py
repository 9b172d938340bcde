"""`/webhooks`, and the log of what they were sent."""

from __future__ import annotations

from typing import get_args

from aidevos.contracts import subjects, webhooks
from aidevos.contracts.webhooks import (
    DeliveryInfo,
    DeliveryPage,
    NewWebhook,
    RotateSecretBody,
    TestSent,
    WebhookBody,
    WebhookInfo,
    WebhookPage,
)

from ..http.request import HttpRequest
from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, patch, post
from .parameters import ID_PATTERN, PAGE, one_of, text, variable

HOOKS, HOOK = "/webhooks", "/webhooks/{webhook_id}"
DELIVERIES, DELIVERY = f"{HOOK}/deliveries", f"{HOOK}/deliveries/{{delivery_id}}"
SEARCH = subjects.query(webhooks.TYPE, webhooks.SEARCH)
WEBHOOK = Target(webhooks.TYPE, in_path("webhook_id", "webhook"))
SENT = Target(webhooks.DELIVERY_TYPE, in_path("delivery_id", "delivery"))
OWNER = text("owner", "Only this user's, for callers with `webhooks:manage`", "^.{0,128}$")
FILTERS = (
    one_of("status", get_args(webhooks.Status), "Only deliveries of this status"),
    one_of("sort", ("at", "-at"), "By time; with a minus (the default) the newest first"),
)
EVENTS = "It gets the events that its owner may see."
TEST = f"Send an event of the type `{webhooks.TEST}`"


def _webhook(request: HttpRequest, body: None) -> dict[str, str]:
    return {"webhook": WEBHOOK.id(request, None)}


class WebhookRouter(APIRouter):
    tag = "webhooks"
    about = "Events as HTTP requests to your own addresses"
    needs = "Needs `webhooks:self`, and for others' webhooks `webhooks:manage`."
    variables = (
        variable("webhook_id", "A webhook's ID", ID_PATTERN),
        variable("delivery_id", "A delivery's ID", ID_PATTERN),
    )
    rows = (
        get(HOOKS, "list_webhooks", "List webhooks", SEARCH, WebhookPage, query=(*PAGE, OWNER)),
        create(
            HOOKS, "create_webhook", "Make a webhook", webhooks.TYPE, NewWebhook, WebhookBody, secret=True, about=EVENTS
        ),
        get(HOOK, "read_webhook", "Show a webhook", WEBHOOK, WebhookInfo),
        patch(HOOK, "change_webhook", "Change a webhook", WEBHOOK, WebhookInfo, WebhookBody),
        delete(HOOK, "delete_webhook", "Delete a webhook and its log", (WEBHOOK, "remove")),
        post(
            f"{HOOK}/rotate-secret",
            "rotate_webhook_secret",
            "Replace a secret by another",
            (WEBHOOK, "rotate_secret"),
            NewWebhook,
            RotateSecretBody,
            optional=True,
            secret=True,
        ),
        post(f"{HOOK}/test", "test_webhook", TEST, (WEBHOOK, "test"), TestSent, status=202),
        get(
            DELIVERIES,
            "list_deliveries",
            "List deliveries",
            (WEBHOOK, "deliveries"),
            DeliveryPage,
            query=(*PAGE, *FILTERS),
        ),
        get(DELIVERY, "read_delivery", "Show a delivery", SENT, DeliveryInfo, args=_webhook),
        post(
            f"{DELIVERY}/replay",
            "replay_delivery",
            "Send an event once more",
            (SENT, "replay"),
            DeliveryInfo,
            status=202,
            args=_webhook,
        ),
    )
