"""`/events`: live events; `/webhooks`: events as HTTP requests; `/dead-letters`: undelivered messages."""

from __future__ import annotations

from typing import Any, get_args

from aidevos.contracts import data, dead_letters, subjects, webhooks
from aidevos.contracts.dead_letters import DeadLetter
from aidevos.contracts.webhooks import DeliveryInfo, NewWebhook, WebhookBody, WebhookInfo
from aidevos.feeds.audience import READ_EVENTS
from aidevos.settings import Settings

from ..forwarder import Forwarder
from ..http import parameters
from ..http.charges import Charges
from ..http.parameters import ID_PATTERN, PAGE, Parameter, moment, one_of, text, variable
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..live import event_filter
from ..live.endless_body import EVENT_STREAM, STREAM_HEADERS
from ..live.hub import Hub
from ..live.subscriber import subscriber_of
from ..pages import load_page
from .api_router import APIRouter
from .operation import Access, Target, Text, create, delete, get, in_path, patch, post

ABOUT = """\
An endless stream of server-sent events (WHATWG HTML §9.2). Callers receive only events that they may see at that
moment: an item's events if they may read the item, the events of a project and its tasks if they are members, their
own user's events, and all others with `<type>:read`. `event` is the type, such as `item.created`; `data` is a
CloudEvent 1.0; `id` is the position in the stream, also sent alone, from which `Last-Event-ID` resumes. `event: gap`
means that some later events are no longer kept. `event: end` gives the reason why the stream ends. After `draining`,
`slow`, `unavailable` or `restarted` the client can resume; after `unauthenticated` or `forbidden` it can't."""
EVENTS: dict[str, Any] = {"response": Text(EVENT_STREAM), "about": ABOUT, "headers": ("Last-Event-ID",)}
CHAT: dict[str, Any] = {"response": Text("text/html"), "access": Access.PUBLIC, "permission": ""}
HOOKS, HOOK = "/webhooks", "/webhooks/{webhook_id}"
DELIVERIES, DELIVERY = f"{HOOK}/deliveries", f"{HOOK}/deliveries/{{delivery_id}}"
LETTERS, LETTER = "/dead-letters", "/dead-letters/{letter_id}"
FIND_HOOKS = subjects.query(webhooks.TYPE, webhooks.SEARCH)
FIND_LETTERS = subjects.query(dead_letters.TYPE, dead_letters.SEARCH)
WEBHOOK = Target(webhooks.TYPE, in_path("webhook_id", "webhook"))
SENT = Target(webhooks.DELIVERY_TYPE, in_path("delivery_id", "delivery"))
DEAD = Target(dead_letters.TYPE, in_path("letter_id", "letter"))
REPLAYED = "The letter then shows the outcome. A client's message is sent with the permissions of this caller."


def _several(name: str, pattern: str, description: str) -> Parameter:
    values = f"^({pattern})(,({pattern})){{0,{event_filter.MAX_VALUES - 1}}}$"
    return text(name, f"{description}, separated by commas", values)


def _webhook(request: HttpRequest, body: None) -> dict[str, str]:
    return {"webhook": WEBHOOK.id(request, None)}


LAST_EVENT_ID = text(
    event_filter.LAST_EVENT_ID, "Like the header `Last-Event-ID`, which takes precedence", "^[0-9]{1,18}$"
)
FILTERS = (
    _several("type", subjects.TYPE_PATTERN, "Only events of objects of these types"),
    _several("collection", data.COLLECTION_PATTERN, "Only events of items of these collections"),
    _several("id", subjects.ID_PATTERN, "Only events of the objects, or items, with these IDs"),
    _several("name", subjects.METHOD_PATTERN, "Only events with these names, such as `created`"),
    one_of(event_filter.INCLUDE, (event_filter.DATA,), "`data` adds the item, as it is now, to an item's event"),
    LAST_EVENT_ID,
)
ROOM = text("room", "The ID of a `chat_room`, by default `lobby`", ID_PATTERN)
OWNER = text("owner", "Only webhooks of this user, for callers with `webhooks:manage`", "^.{0,128}$")
SORT = one_of("sort", ("at", "-at"), "The order by time; with a minus (the default), the newest come first")
LOG = (*PAGE, one_of("status", get_args(webhooks.Status), "Only deliveries with this status"), SORT)
DEAD_LETTERS = (
    *PAGE,
    one_of("kind", get_args(dead_letters.Kind), "Only letters of this kind"),
    one_of("status", get_args(dead_letters.Status), "Only letters with this status"),
    text("source", "Only letters from this object (`<type>:<id>`) or this user", "^.{0,200}$"),
    moment("to", "The latest time, exclusive"),
    SORT,
)


class EventRouter(APIRouter):
    """`/events`, and a page that shows them."""

    tag = "events"
    about = "Events, as they happen"
    permission = READ_EVENTS

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges, hub: Hub) -> None:
        super().__init__(forwarder, settings, charges)
        self._hub = hub
        self._chat = load_page("chat.html")

    @get("/events", "read_events", "Follow events", query=FILTERS, **EVENTS)
    async def read(self, request: HttpRequest) -> HttpResponse:
        wanted = event_filter.parse(request.parameters)
        after = event_filter.parse_position(request.header(b"last-event-id"), request.parameters)
        if request.is_head:
            return HttpResponse(200, headers=STREAM_HEADERS)
        chunks = await self._hub.open(wanted, subscriber_of(request), request.connection, after)
        return HttpResponse(200, headers=STREAM_HEADERS, chunks=chunks)

    @get("/examples/chat", "chat", "Show an example page that follows events", query=(ROOM,), **CHAT)
    async def chat(self, request: HttpRequest) -> HttpResponse:
        parameters.check_id(request.parameters, ROOM.name)
        return self._chat


class WebhookRouter(APIRouter):
    """`/webhooks`, and the log of their deliveries."""

    tag = "webhooks"
    about = "Events as HTTP requests to your own URLs"
    needs = "Requires `webhooks:self`, or `webhooks:manage` for other users' webhooks."
    variables = (
        variable("webhook_id", "A webhook's ID", ID_PATTERN),
        variable("delivery_id", "A delivery's ID", ID_PATTERN),
    )
    # fmt: off
    rows = (
        get(HOOKS, "list_webhooks", "List webhooks", FIND_HOOKS, webhooks.WebhookPage, query=(*PAGE, OWNER)),
        create(HOOKS, "create_webhook", "Create a webhook", webhooks.TYPE, NewWebhook, WebhookBody, secret=True,
               about="It receives the events that its owner may see."),
        get(HOOK, "read_webhook", "Show a webhook", WEBHOOK, WebhookInfo),
        patch(HOOK, "change_webhook", "Change a webhook", WEBHOOK, WebhookInfo, WebhookBody),
        delete(HOOK, "delete_webhook", "Delete a webhook and its log", (WEBHOOK, "remove")),
        post(f"{HOOK}/rotate-secret", "rotate_webhook_secret", "Replace a webhook's secret by a new one",
             (WEBHOOK, "rotate_secret"), NewWebhook, webhooks.RotateSecretBody, optional=True, secret=True),
        post(f"{HOOK}/test", "test_webhook", f"Send an event of the type `{webhooks.TEST}`", (WEBHOOK, "test"),
             webhooks.TestSent, status=202),
        get(DELIVERIES, "list_deliveries", "List a webhook's deliveries", (WEBHOOK, "deliveries"),
            webhooks.DeliveryPage, query=LOG),
        get(DELIVERY, "read_delivery", "Show a delivery", SENT, DeliveryInfo, args=_webhook),
        post(f"{DELIVERY}/replay", "replay_delivery", "Send a delivery again", (SENT, "replay"), DeliveryInfo,
             status=202, args=_webhook),
    )
    # fmt: on


class DeadLetterRouter(APIRouter):
    """`/dead-letters`."""

    tag = "dead letters"
    about = "Messages that couldn't be delivered"
    needs = f"Requires `{dead_letters.MANAGE}`."
    variables = (variable("letter_id", "A letter's ID", ID_PATTERN),)
    # fmt: off
    rows = (
        get(LETTERS, "list_dead_letters", "List dead letters, without their arguments", FIND_LETTERS,
            dead_letters.LetterPage, query=DEAD_LETTERS),
        get(LETTER, "read_dead_letter", "Show a dead letter", DEAD, DeadLetter),
        delete(LETTER, "delete_dead_letter", "Delete a dead letter", (DEAD, "remove")),
        post(f"{LETTER}/replay", "replay_dead_letter", "Send a dead letter again", (DEAD, "replay"), DeadLetter,
             status=202, about=REPLAYED),
    )
    # fmt: on
