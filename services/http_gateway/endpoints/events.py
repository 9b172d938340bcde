"""`/events`: what happens, as it happens, for callers who may know of it."""

from __future__ import annotations

import re

from aidevos.contracts import data, subjects
from aidevos.contracts.errors import Failure
from aidevos.feeds.audience import READ_EVENTS
from aidevos.settings import Settings

from ..forwarder import Forwarder
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..live import event_filter
from ..live.hub import Hub
from ..live.subscriber import Subscriber
from ..pages import page
from .api_router import APIRouter
from .operation import Access, Text, get
from .parameters import ID_PATTERN, Parameter, text

LAST_EVENT_ID = "last_event_id"
ABOUT = """\
Server-sent events (WHATWG HTML §9.2) without end. Each event goes to callers who may know of it at that moment: an
item's event to those who may read the item, a project's and its tasks' to its members, a user's own to the user, and
every other to callers with `<type>:read`. `event` is the type, as `item.created`; `data` is a CloudEvent 1.0; `id` is
the position in the stream, also sent alone, from which `Last-Event-ID` resumes. `event: gap` says that events since
then are not kept any more. `event: end` says why the stream ends: `draining`, `slow`, `unavailable` or `restarted`,
after which it can be resumed, or `unauthenticated` or `forbidden`."""
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # Proxies that follow nginx's lead pass each event on at once.
    (b"x-accel-buffering", b"no"),
)
_position = re.compile(r"[0-9]{1,18}").fullmatch


def _several(name: str, pattern: str, description: str) -> Parameter:
    values = f"^({pattern})(,({pattern})){{0,{event_filter.MAX_VALUES - 1}}}$"
    return text(name, f"{description}, with commas between", values)


FILTERS = (
    _several("type", subjects.TYPE_PATTERN, "Only events of objects of these types"),
    _several("collection", data.COLLECTION_PATTERN, "Only events of items of these collections"),
    _several("id", subjects.ID_PATTERN, "Only events of the objects, or items, with these IDs"),
    _several("name", subjects.METHOD_PATTERN, "Only events of these names, as `created`"),
    text(LAST_EVENT_ID, "As `Last-Event-ID`, which counts before it", "^[0-9]{1,18}$"),
)


class EventRouter(APIRouter):
    tag = "events"
    about = "What happens, as it happens"
    permission = READ_EVENTS

    def __init__(self, forwarder: Forwarder, settings: Settings, hub: Hub) -> None:
        super().__init__(forwarder, settings)
        self._hub = hub
        self._chat = page("chat.html")

    @get(
        "/events",
        "read_events",
        "Follow events",
        answer=Text("text/event-stream"),
        about=ABOUT,
        query=FILTERS,
        headers=("Last-Event-ID",),
    )
    async def read(self, request: HttpRequest) -> HttpResponse:
        what, after = event_filter.parse(request.parameters), _after(request)
        if request.is_head:
            return HttpResponse(200, headers=_HEADERS)
        subscriber = Subscriber(request.principal, request.header(b"authorization") or "", request.address)
        chunks = await self._hub.open(what, subscriber, request.connection, after)
        return HttpResponse(200, headers=_HEADERS, chunks=chunks)

    @get(
        "/examples/chat",
        "chat",
        "Show a page that lives from events",
        answer=Text("text/html"),
        access=Access.PUBLIC,
        permission="",
        query=(text("room", "The ID of a `chat_room`, by default `lobby`", ID_PATTERN),),
    )
    async def chat(self, request: HttpRequest) -> HttpResponse:
        return self._chat


def _after(request: HttpRequest) -> int | None:
    """The last event that the reader has. A browser that comes back names it in the header, whatever its URL said
    at the beginning."""
    header = request.header(b"last-event-id")
    name = "Last-Event-ID" if header else LAST_EVENT_ID
    text = header or request.parameters.get(LAST_EVENT_ID)
    if text is None:
        return None
    if not _position(text):
        raise Failure("invalid", "this is not the ID of an event of this stream", field=name)
    return int(text)
