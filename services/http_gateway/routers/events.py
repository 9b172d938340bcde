"""`/events`: what happens, as it happens, for those who may know of it."""

from __future__ import annotations

import re

from starlette.routing import Route

from aidevos.contracts.errors import Failure

from ..answers import Answer
from ..live import wanted
from ..live.hub import Hub
from ..live.reader import Reader
from ..resource import Guard, Incoming, Resource

LAST_EVENT_ID = "last_event_id"
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # Proxies that follow nginx's lead pass each event on at once.
    (b"x-accel-buffering", b"no"),
)
_position = re.compile(r"[0-9]{1,18}").fullmatch


class EventRouter:
    """`/events`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def routes(self, readers: Guard) -> list[Route]:
        return [Route("/events", Resource(readers, parameters=(*wanted.PARAMETERS, LAST_EVENT_ID), get=self.read))]

    async def read(self, incoming: Incoming) -> Answer:
        what, after = wanted.parse(incoming.parameters), _after(incoming)
        if incoming.is_head:
            return Answer(200, headers=_HEADERS)
        reader = Reader(incoming.principal, incoming.header(b"authorization") or "", incoming.address)
        return Answer(200, headers=_HEADERS, chunks=await self._hub.open(what, reader, incoming.connection, after))


def _after(incoming: Incoming) -> int | None:
    """The last event that the reader has. A browser that comes back tells it in the header, whatever its URL
    said at the beginning."""
    header = incoming.header(b"last-event-id")
    name = "Last-Event-ID" if header else LAST_EVENT_ID
    text = header or incoming.parameters.get(LAST_EVENT_ID)
    if text is None:
        return None
    if not _position(text):
        raise Failure("invalid", "this is not the ID of an event of this stream", field=name)
    return int(text)
