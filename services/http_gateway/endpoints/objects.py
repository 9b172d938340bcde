"""`/durable-objects`: each request becomes one NATS request, and its reply the response.

No rule of an object lives here; what is checked is checked again by the host.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from aidevos.contracts import objects, subjects
from aidevos.contracts.envelope import CreateBody, ReplaceBody, RequestBody
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import DurableObject, ObjectPage
from aidevos.settings import Settings

from ..catalogue import Catalogue
from ..cursors import Position, decode_cursor, encode_cursor
from ..forwarder import Forwarder, new_object_id
from ..http import parameters
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..http.versions import unless_known, versioned
from .api_router import APIRouter
from .operation import delete, get, post, put
from .operations import LEFT_OUT, READ_FLEET
from .parameters import ID_PATTERN, INTERNAL, PAGE, PROJECT, text, variable

# Seconds that each type may take where all are listed.
ALL_TYPES_WITHIN = 1.0
OBJECTS, OBJECT = "/durable-objects", "/durable-objects/{object_id}"
LISTING = (text("type", "Only objects of this type", f"^{subjects.TYPE_PATTERN}$"), PROJECT, *PAGE, INTERNAL)


NAMED = "Without `name` it gets a new ID."
RAW = "Needs `objects:manage`, and a type whose `management` is `raw`."
ALL_TYPES = "Without `type` it lists all types that are served now, one after another. " + LEFT_OUT
REQUEST: dict[str, Any] = {
    "permission": "objects:request",
    "needs": "Needs `objects:request`, and what the method itself asks for.",
    "headers": ("Idempotency-Key", "If-Match", "Deadline", "traceparent"),
}


class Result(msgspec.Struct, forbid_unknown_fields=True):
    """The result of a method."""

    result: Annotated[Any, msgspec.Meta(description="By the method's own schema")]


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


STATE = {"type": "object", "description": "By the type's own schema"}
ARGS = {"type": "object", "description": "By the method's own schema", "default": {}}
NAME = {"type": "string", "minLength": 1, "description": f"1 to {subjects.NAME_LIMIT} bytes"}
SCHEMAS = {
    "CreateBody": _object(
        {
            "type": {"type": "string", "pattern": f"^{subjects.TYPE_PATTERN}$"},
            "name": NAME,
            "state": STATE,
            "project": {"type": "string", "pattern": ID_PATTERN, "description": "A project to belong to"},
        },
        "type",
    ),
    "ReplaceBody": _object({"state": STATE}, "state"),
    "RequestBody": _object(
        {"method": {"type": "string", "pattern": f"^{subjects.METHOD_PATTERN}$"}, "args": ARGS}, "method"
    ),
}


class _Shown(msgspec.Struct):
    """What the gateway reads of a `DurableObject`, which passes through as the host wrote it."""

    object_id: str


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None = None


_shown = msgspec.json.Decoder(_Shown)
_page = msgspec.json.Decoder(_Page)


class DurableObjectRouter(APIRouter):
    tag = "objects"
    about = "Durable objects of every type"
    permission = "objects:manage"
    body_limit = 0
    variables = (variable("object_id", "`<type>:<id>`", f"^{subjects.TYPE_PATTERN}:{subjects.ID_PATTERN}$"),)

    schemas = SCHEMAS

    def __init__(self, forwarder: Forwarder, settings: Settings, catalogue: Catalogue) -> None:
        super().__init__(forwarder, settings)
        self._catalogue = catalogue

    @post(f"{OBJECT}/request", "request", "Call a method of an object", None, Result, RequestBody, **REQUEST)
    async def request(self, request: HttpRequest, body: RequestBody) -> HttpResponse:
        type, id = self._address(request)
        if not subjects.is_method(body.method):
            raise Failure("unknown-method", "a method's name is [a-z][a-z0-9_]*, of at most 64", field="method")
        subject = subjects.call(type, id, body.method)
        reply = await self._forwarder.request(subject, bytes(body.args), self._forwarder.options(request))
        return HttpResponse(200, b'{"result":%b}' % (reply or b"null"))

    @post(OBJECTS, "create_object", "Make an object", None, DurableObject, CreateBody, about=NAMED, location=OBJECT)
    async def create(self, request: HttpRequest, body: CreateBody) -> HttpResponse:
        self._catalogue.check(body.type)
        options = self._forwarder.options(request)
        await self._forwarder.bind_key(request)
        name = body.name
        id = new_object_id(request, body.type) if name is None else subjects.id_from_name(body.type, name)
        arguments: dict[str, Any] = {"project": body.project} if body.project is not None else {}
        if bytes(body.state):
            arguments["state"] = body.state
        payload = msgspec.json.encode(arguments)
        reply = await self._forwarder.arguments(subjects.call(body.type, id, objects.CREATE), payload, options)
        location = f"/durable-objects/{_shown.decode(reply).object_id}".encode()
        return versioned(reply, 201, (b"location", location))

    @get(OBJECT, "read_object", "Show an object", answer=DurableObject, failures=(409, 412))
    async def read(self, request: HttpRequest) -> HttpResponse:
        return unless_known(request, versioned(await self._manage(request, objects.READ)))

    @put(OBJECT, "replace_object", "Replace an object's state", None, DurableObject, ReplaceBody, needs=RAW)
    async def replace(self, request: HttpRequest, body: ReplaceBody) -> HttpResponse:
        return versioned(await self._manage(request, objects.REPLACE, request.content))

    @delete(OBJECT, "delete_object", "Delete an object")
    async def delete(self, request: HttpRequest) -> HttpResponse:
        await self._manage(request, objects.DELETE)
        return HttpResponse(204, headers=())

    @get(OBJECTS, "list_objects", "List objects by type and ID", answer=ObjectPage, query=LISTING, about=ALL_TYPES)
    async def list(self, request: HttpRequest) -> HttpResponse:
        limit = parameters.limit(request.parameters)
        type, internal = request.parameters.get("type"), self._shows_internal(request)
        if type is not None:
            self._catalogue.check(type, internal=internal)
        cursor = request.parameters.get("cursor")
        position = Position(type or "") if cursor is None else decode_cursor(cursor)
        if type is not None and position.type != type:
            raise Failure("invalid", "the cursor is of a list of another type", field="cursor")
        names = [type] if type is not None else self._catalogue.names(internal)
        options = self._forwarder.options(request)
        if type is None:
            # Of all types, those that nobody serves at the moment are left out.
            options["deadline"] = min(options["deadline"] or ALL_TYPES_WITHIN, ALL_TYPES_WITHIN)
        items: list[msgspec.Raw] = []
        following: Position | None = None
        for name in (name for name in names if name >= position.type):
            if len(items) == limit:
                following = Position(name)
                break
            inner = position.cursor if name == position.type else None
            try:
                project = request.parameters.get("project")
                page = await self._read_page(name, limit - len(items), inner, project, options)
            except Failure as failure:
                if type is None and failure.code == "unavailable":
                    continue
                raise
            items += page.items
            if page.next_cursor is not None:
                following = Position(name, page.next_cursor)
                break
        return HttpResponse(200, msgspec.json.encode(_Page(items, encode_cursor(following) if following else None)))

    async def _read_page(
        self, type: str, limit: int, cursor: str | None, project: str | None, options: dict[str, Any]
    ) -> _Page:
        arguments = msgspec.json.encode({"limit": limit, "cursor": cursor, "project": project})
        return _page.decode(await self._forwarder.arguments(subjects.query(type, objects.LIST), arguments, options))

    async def _manage(self, request: HttpRequest, method: str, payload: bytes = b"{}") -> bytes:
        type, id = self._address(request)
        subject = subjects.call(type, id, method)
        return await self._forwarder.request(subject, payload, self._forwarder.options(request))

    def _address(self, request: HttpRequest) -> tuple[str, str]:
        type, id = subjects.split_object_id(request.path["object_id"])
        self._catalogue.check(type)
        return type, id

    def _shows_internal(self, request: HttpRequest) -> bool:
        internal = parameters.flag(request.parameters, INTERNAL.name)
        if internal and not request.principal.has(READ_FLEET):
            raise Failure("forbidden", f"internal types need the permission {READ_FLEET}", field=INTERNAL.name)
        return internal
