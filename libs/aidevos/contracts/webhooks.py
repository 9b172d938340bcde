"""Webhooks as both entry points show them: receivers of events, and the log of their deliveries.

A message is one event for one webhook: the CloudEvent as live streams show it, with the headers of
Standard Webhooks. Its `webhook-id` is the ID of the delivery, the same for every attempt and every
replay.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.data import CollectionName
from aidevos.contracts.patterns import whole
from aidevos.contracts.projects import Id

TYPE = "webhook"
# The type whose object, under a user's ID, holds the user's webhooks.
HOLDER_TYPE = "webhook_holder"
DELIVERY_TYPE = "delivery"
# Searches: `query.webhook.search`, and for services `query.delivery.search`.
SEARCH = "search"
# The event after which every sending process reads the webhooks again.
CHANGED = f"event.{TYPE}.*.changed"
# The type of the event that `POST …/test` sends; no other event has it.
TEST = "webhook.test"
OWN_WEBHOOKS = "webhooks:self"
MANAGE_WEBHOOKS = "webhooks:manage"

DAY = 86_400.0
EVERYTHING = "*"
NARROWED_LIMIT = 50
PATTERN = rf"(\*|{subjects.TYPE_PATTERN}\.(\*|{subjects.METHOD_PATTERN}))"

Url = Annotated[str, Meta(pattern=whole(r"https?://[^\s/?#@]+([/?][^\s#]*)?"), max_length=2048)]
Patterns = Annotated[
    list[Annotated[str, Meta(pattern=whole(PATTERN), description="`item.created`, `item.*` or `*`")]],
    Meta(min_length=1, max_length=50),
]
Collections = Annotated[
    list[CollectionName],
    Meta(max_length=NARROWED_LIMIT, description="Only events of items in these collections; empty for all"),
]
Projects = Annotated[
    list[Id],
    Meta(max_length=NARROWED_LIMIT, description="Only events of these projects and their content; empty for all"),
]
Description = Annotated[str, Meta(max_length=500)]
Overlap = Annotated[float, Meta(ge=0, le=7 * DAY, description="Seconds for which the former secret also signs")]
Status = Literal["pending", "delivered", "failed"]
Moment = Annotated[datetime, Meta(tz=True)]


class WebhookBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /webhooks`, the arguments of `create`, and the fields that a merge patch can change.

    `events` are event types such as `item.created`, all events of an object type such as `item.*`, or
    `*` for all.
    """

    url: Url
    events: Patterns
    collections: Collections = []
    projects: Projects = []
    description: Description = ""
    active: bool = True


class RotateSecretBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /webhooks/{id}/rotate-secret`, and the arguments of `rotate_secret`."""

    overlap: Overlap = DAY


class WebhookInfo(msgspec.Struct, kw_only=True):
    """A webhook without its secret.

    `key` is the ID of the API key that created it and limits it, empty for none. `disabled_reason` is
    set if the fleet deactivated it. `failing_since` is the time of the first failed delivery since the
    last successful one. Times are RFC 3339 in UTC; `version` is the ETag.
    """

    id: str
    owner: str
    key: str
    url: str
    events: list[str]
    collections: list[str]
    projects: list[str]
    description: str
    active: bool
    disabled_reason: str
    failing_since: str | None
    version: int
    created_at: str
    updated_at: str


class WebhookSummary(msgspec.Struct, kw_only=True):
    """The parts of a webhook by which its owner recognises it. `host` is that of its URL."""

    id: str
    host: str
    description: str
    created_at: str


class NewWebhook(WebhookInfo, kw_only=True):
    """A webhook with a new secret, which is shown only once."""

    secret: str


class FindWebhooks(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.webhook.search`, and the parameters of `GET /webhooks`.

    `owner` is a user's ID; callers without `webhooks:manage` always get their own webhooks.
    """

    limit: int = 50
    cursor: str | None = None
    owner: Annotated[str, Meta(max_length=128)] | None = None


class WebhookPage(msgspec.Struct, kw_only=True):
    items: list[WebhookInfo]
    next_cursor: str | None = None


class Attempt(msgspec.Struct, kw_only=True):
    """One request: the response's `status`, or None with the reason in `error`; and the duration in seconds."""

    at: str
    status: int | None
    seconds: float
    error: str


class DeliveryInfo(msgspec.Struct, kw_only=True):
    """A delivery without its content.

    `object_id` is the object that emitted the event. `tries` counts the attempts since the beginning or
    the last replay, and `attempts` are the latest of all. `reason` says why it failed.
    `next_attempt_at` is None unless it is `pending`.
    """

    id: str
    webhook_id: str
    event_id: str
    event_type: str
    object_id: str
    status: Status
    tries: int
    attempts: list[Attempt]
    reason: str
    next_attempt_at: str | None
    replays: int
    created_at: str
    ended_at: str | None
    version: int


class FindDeliveries(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.delivery.search`; `to` is exclusive."""

    limit: int = 50
    cursor: str | None = None
    webhook: str | None = None
    status: Status | None = None
    until: Moment | None = msgspec.field(name="to", default=None)
    sort: Literal["at", "-at"] = "-at"


class DeliveryPage(msgspec.Struct, kw_only=True):
    items: list[DeliveryInfo]
    next_cursor: str | None = None


class TestSent(msgspec.Struct):
    """The delivery that `POST /webhooks/{id}/test` began."""

    delivery_id: str


def delivery_id(webhook: str, event: str) -> str:
    """Return the ID of the delivery of an event to a webhook; it is the same every time."""
    return subjects.hashed_id(DELIVERY_TYPE, f"{webhook}:{event}")
