"""`/events`: what happens, as it happens; `/webhooks`: the same as requests; `/dead-letters`: what wasn't delivered."""

from __future__ import annotations

from typing import Any, get_args

from aidevos.contracts import data, dead_letters, subjects, webhooks
from aidevos.contracts.dead_letters import DeadLetter
from aidevos.contracts.webhooks import DeliveryInfo, NewWebhook, WebhookBody, WebhookInfo
from aidevos.feeds.audience import READ_EVENTS
from aidevos.settings import Settings

from ..forwarder import Forwarder
from ..http.parameters import ID_PATTERN, PAGE, Parameter, moment, one_of, text, variable
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..live import event_filter
from ..live.hub import Hub
from ..live.subscriber import Subscriber
from ..pages import page
from .api_router import APIRouter
from .operation import Access, Target, Text, create, delete, get, in_path, patch, post

ABOUT = """\
Server-sent events (WHATWG HTML §9.2) without end. Each event goes to callers who may know of it at that moment: an
item's event to those who may read the item, a project's and its tasks' to its members, a user's own to the user, and
every other to callers with `<type>:read`. `event` is the type, as `item.created`; `data` is a CloudEvent 1.0; `id` is
the position in the stream, also sent alone, from which `Last-Event-ID` resumes. `event: gap` says that events since
then are not kept any more. `event: end` says why the stream ends: `draining`, `slow`, `unavailable` or `restarted`,
after which it can be resumed, or `unauthenticated` or `forbidden`."""
EVENTS: dict[str, Any] = {"answer": Text("text/event-stream"), "about": ABOUT, "headers": ("Last-Event-ID",)}
CHAT: dict[str, Any] = {"answer": Text("text/html"), "access": Access.PUBLIC, "permission": ""}
HOOKS, HOOK = "/webhooks", "/webhooks/{webhook_id}"
DELIVERIES, DELIVERY = f"{HOOK}/deliveries", f"{HOOK}/deliveries/{{delivery_id}}"
LETTERS, LETTER = "/dead-letters", "/dead-letters/{letter_id}"
FIND_HOOKS = subjects.query(webhooks.TYPE, webhooks.SEARCH)
FIND_LETTERS = subjects.query(dead_letters.TYPE, dead_letters.SEARCH)
WEBHOOK = Target(webhooks.TYPE, in_path("webhook_id", "webhook"))
SENT = Target(webhooks.DELIVERY_TYPE, in_path("delivery_id", "delivery"))
DEAD = Target(dead_letters.TYPE, in_path("letter_id", "letter"))
REPLAYED = "The letter shows what comes of it. What a client has sent is sent with the caller's rights."
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # Proxies that follow nginx's lead pass each event on at once.
    (b"x-accel-buffering", b"no"),
)


def _several(name: str, pattern: str, description: str) -> Parameter:
    values = f"^({pattern})(,({pattern})){{0,{event_filter.MAX_VALUES - 1}}}$"
    return text(name, f"{description}, with commas between", values)


def _webhook(request: HttpRequest, body: None) -> dict[str, str]:
    return {"webhook": WEBHOOK.id(request, None)}


LAST_EVENT_ID = text(event_filter.LAST_EVENT_ID, "As `Last-Event-ID`, which counts before it", "^[0-9]{1,18}$")
FILTERS = (
    _several("type", subjects.TYPE_PATTERN, "Only events of objects of these types"),
    _several("collection", data.COLLECTION_PATTERN, "Only events of items of these collections"),
    _several("id", subjects.ID_PATTERN, "Only events of the objects, or items, with these IDs"),
    _several("name", subjects.METHOD_PATTERN, "Only events of these names, as `created`"),
    LAST_EVENT_ID,
)
ROOM = text("room", "The ID of a `chat_room`, by default `lobby`", ID_PATTERN)
OWNER = text("owner", "Only this user's, for callers with `webhooks:manage`", "^.{0,128}$")
SORT = one_of("sort", ("at", "-at"), "By time; with a minus (the default) the newest first")
LOG = (*PAGE, one_of("status", get_args(webhooks.Status), "Only deliveries of this status"), SORT)
DEAD_LETTERS = (
    *PAGE,
    one_of("kind", get_args(dead_letters.Kind), "Only letters of this kind"),
    one_of("status", get_args(dead_letters.Status), "Only letters of this status"),
    text("source", "Only from this object, as `<type>:<id>`, or this user", "^.{0,200}$"),
    moment("to", "The moment after the last one"),
    SORT,
)


class EventRouter(APIRouter):
    """`/events`, and a page that shows them."""

    tag = "events"
    about = "What happens, as it happens"
    permission = READ_EVENTS

    def __init__(self, forwarder: Forwarder, settings: Settings, hub: Hub) -> None:
        super().__init__(forwarder, settings)
        self._hub = hub
        self._chat = page("chat.html")

    @get("/events", "read_events", "Follow events", query=FILTERS, **EVENTS)
    async def read(self, request: HttpRequest) -> HttpResponse:
        what = event_filter.parse(request.parameters)
        after = event_filter.position(request.header(b"last-event-id"), request.parameters)
        if request.is_head:
            return HttpResponse(200, headers=_HEADERS)
        subscriber = Subscriber(request.principal, request.header(b"authorization") or "", request.address)
        chunks = await self._hub.open(what, subscriber, request.connection, after)
        return HttpResponse(200, headers=_HEADERS, chunks=chunks)

    @get("/examples/chat", "chat", "Show a page that lives from events", query=(ROOM,), **CHAT)
    async def chat(self, request: HttpRequest) -> HttpResponse:
        return self._chat


class WebhookRouter(APIRouter):
    """`/webhooks`, and the log of what they were sent."""

    tag = "webhooks"
    about = "Events as HTTP requests to your own addresses"
    needs = "Needs `webhooks:self`, and for others' webhooks `webhooks:manage`."
    variables = (
        variable("webhook_id", "A webhook's ID", ID_PATTERN),
        variable("delivery_id", "A delivery's ID", ID_PATTERN),
    )
    # fmt: off
    rows = (
        get(HOOKS, "list_webhooks", "List webhooks", FIND_HOOKS, webhooks.WebhookPage, query=(*PAGE, OWNER)),
        create(HOOKS, "create_webhook", "Make a webhook", webhooks.TYPE, NewWebhook, WebhookBody, secret=True,
               about="It gets the events that its owner may see."),
        get(HOOK, "read_webhook", "Show a webhook", WEBHOOK, WebhookInfo),
        patch(HOOK, "change_webhook", "Change a webhook", WEBHOOK, WebhookInfo, WebhookBody),
        delete(HOOK, "delete_webhook", "Delete a webhook and its log", (WEBHOOK, "remove")),
        post(f"{HOOK}/rotate-secret", "rotate_webhook_secret", "Replace a secret by another",
             (WEBHOOK, "rotate_secret"), NewWebhook, webhooks.RotateSecretBody, optional=True, secret=True),
        post(f"{HOOK}/test", "test_webhook", f"Send an event of the type `{webhooks.TEST}`", (WEBHOOK, "test"),
             webhooks.TestSent, status=202),
        get(DELIVERIES, "list_deliveries", "List what was sent or is to be sent", (WEBHOOK, "deliveries"),
            webhooks.DeliveryPage, query=LOG),
        get(DELIVERY, "read_delivery", "Show a delivery", SENT, DeliveryInfo, args=_webhook),
        post(f"{DELIVERY}/replay", "replay_delivery", "Send an event once more", (SENT, "replay"), DeliveryInfo,
             status=202, args=_webhook),
    )
    # fmt: on


class DeadLetterRouter(APIRouter):
    """`/dead-letters`."""

    tag = "dead letters"
    about = "What couldn't be delivered"
    needs = f"Needs `{dead_letters.MANAGE}`."
    variables = (variable("letter_id", "A letter's ID", ID_PATTERN),)
    # fmt: off
    rows = (
        get(LETTERS, "list_dead_letters", "List what couldn't be delivered, without the arguments", FIND_LETTERS,
            dead_letters.LetterPage, query=DEAD_LETTERS),
        get(LETTER, "read_dead_letter", "Show a letter", DEAD, DeadLetter),
        delete(LETTER, "delete_dead_letter", "Delete a letter", (DEAD, "remove")),
        post(f"{LETTER}/replay", "replay_dead_letter", "Send a letter once more", (DEAD, "replay"), DeadLetter,
             status=202, about=REPLAYED),
    )
    # fmt: on
