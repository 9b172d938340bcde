"""The durable-object endpoints: each HTTP request becomes one NATS request, its reply the answer.

No rule of an object lives here; what is checked is checked again by the host.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.routing import Route

from aidevos.contracts import objects, subjects
from aidevos.contracts.envelope import CreateBody, ReplaceBody, RequestBody
from aidevos.contracts.errors import Failure
from aidevos.settings import Settings

from .. import bodies, parameters
from ..answers import Answer
from ..calls import Calls
from ..catalogue import Catalogue
from ..cursors import Position, decode_cursor, encode_cursor
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

# Seconds that each type may take where all are listed.
ALL_TYPES_WITHIN = 1.0


class _Shown(msgspec.Struct):
    """What the gateway reads of a `DurableObject`, which passes through as the host wrote it."""

    object_id: str


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None = None


_create = msgspec.json.Decoder(CreateBody)
_replace = msgspec.json.Decoder(ReplaceBody)
_request = msgspec.json.Decoder(RequestBody)
_shown = msgspec.json.Decoder(_Shown)
_page = msgspec.json.Decoder(_Page)


class DurableObjectRouter:
    """`/durable-objects` and what is below it."""

    def __init__(self, calls: Calls, catalogue: Catalogue, settings: Settings) -> None:
        self._calls = calls
        self._catalogue = catalogue
        self._max_body = settings.max_body

    def routes(self, manage: Guard, request: Guard) -> list[Route]:
        return [
            Route("/durable-objects/{object_id}/request", Resource(request, post=self.request)),
            Route(
                "/durable-objects/{object_id}",
                Resource(manage, get=self.read, put=self.replace, delete=self.delete),
            ),
            Route(
                "/durable-objects",
                Resource(manage, parameters=("type", "project", "limit", "cursor"), get=self.list, post=self.create),
            ),
        ]

    async def request(self, incoming: Incoming) -> Answer:
        type, id = self._address(incoming)
        body = bodies.decode(_request, await incoming.body(self._max_body), "args")
        if not subjects.is_method(body.method):
            raise Failure("unknown-method", "a method's name is [a-z][a-z0-9_]*, of at most 64", field="method")
        subject = subjects.call(type, id, body.method)
        reply = await self._calls.request(subject, bytes(body.args), self._calls.options(incoming))
        return Answer(200, b'{"result":%b}' % (reply or b"null"))

    async def create(self, incoming: Incoming) -> Answer:
        content = await incoming.body(self._max_body)
        body = bodies.decode(_create, content, "state")
        self._catalogue.check(body.type)
        options = self._calls.options(incoming)
        await self._calls.use_key(incoming, content)
        if body.name is not None:
            id = subjects.id_from_name(body.type, body.name)
        else:
            id = self._calls.new_id(incoming, body.type)
        arguments: dict[str, Any] = {"project": body.project} if body.project is not None else {}
        if bytes(body.state):
            arguments["state"] = body.state
        payload = msgspec.json.encode(arguments)
        reply = await self._calls.arguments(subjects.call(body.type, id, objects.CREATE), payload, options)
        shown = _shown.decode(reply)
        location = f"/durable-objects/{shown.object_id}".encode()
        return versioned(reply, 201, (b"location", location))

    async def read(self, incoming: Incoming) -> Answer:
        type, id = self._address(incoming)
        reply = await self._calls.request(subjects.call(type, id, objects.READ), b"{}", self._calls.options(incoming))
        return unless_known(incoming, versioned(reply))

    async def replace(self, incoming: Incoming) -> Answer:
        type, id = self._address(incoming)
        body = await incoming.body(self._max_body)
        bodies.decode(_replace, body, "state")
        reply = await self._calls.request(subjects.call(type, id, objects.REPLACE), body, self._calls.options(incoming))
        return versioned(reply)

    async def delete(self, incoming: Incoming) -> Answer:
        type, id = self._address(incoming)
        await self._calls.request(subjects.call(type, id, objects.DELETE), b"{}", self._calls.options(incoming))
        return Answer(204, headers=())

    async def list(self, incoming: Incoming) -> Answer:
        limit = parameters.limit(incoming.parameters)
        type = incoming.parameters.get("type")
        if type is not None:
            self._catalogue.check(type)
        cursor = incoming.parameters.get("cursor")
        position = Position(type or "") if cursor is None else decode_cursor(cursor)
        if type is not None and position.type != type:
            raise Failure("invalid", "the cursor is of a list of another type", field="cursor")
        types = [type] if type is not None else [name for name in self._catalogue.names if name >= position.type]
        options = self._calls.options(incoming)
        if type is None:
            # Of all types, those that nobody serves at the moment are left out.
            options["deadline"] = min(options["deadline"] or ALL_TYPES_WITHIN, ALL_TYPES_WITHIN)
        items: list[msgspec.Raw] = []
        following: Position | None = None
        for name in types:
            if len(items) == limit:
                following = Position(name)
                break
            inner = position.cursor if name == position.type else None
            try:
                project = incoming.parameters.get("project")
                page = await self._page(name, limit - len(items), inner, project, options)
            except Failure as failure:
                if type is None and failure.code == "unavailable":
                    continue
                raise
            items += page.items
            if page.next_cursor is not None:
                following = Position(name, page.next_cursor)
                break
        return Answer(200, msgspec.json.encode(_Page(items, encode_cursor(following) if following else None)))

    async def _page(
        self, type: str, limit: int, cursor: str | None, project: str | None, options: dict[str, Any]
    ) -> _Page:
        arguments = msgspec.json.encode({"limit": limit, "cursor": cursor, "project": project})
        return _page.decode(await self._calls.arguments(subjects.query(type, objects.LIST), arguments, options))

    def _address(self, incoming: Incoming) -> tuple[str, str]:
        type, id = subjects.split_object_id(incoming.path["object_id"])
        self._catalogue.check(type)
        return type, id
