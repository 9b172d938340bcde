"""`/durable-objects`: each request becomes one NATS request, and the reply becomes the response.

No object's rule lives here: the host checks again everything that is checked here.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from aidevos.contracts import fleet, objects, subjects
from aidevos.contracts.envelope import QUERY_ONLY, CreateBody, ReplaceBody, RequestBody
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import DurableObject, ObjectPage, PendingWork
from aidevos.settings import Settings

from ..catalogue import TypeCatalogue
from ..forwarder import Forwarder, new_object_id
from ..http import bodies, parameters
from ..http.charges import Charges
from ..http.parameters import ID_PATTERN, INTERNAL, OBJECT_NAME_PATTERN, PAGE, PROJECT, switch, text, variable
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..http.versions import conditional_response, versioned_response
from ..object_lists import ObjectLists
from .api_router import APIRouter
from .operation import Access, delete, get, post, put
from .operations import LEFT_OUT

OBJECTS, OBJECT = "/durable-objects", "/durable-objects/{object_id}"
COUNT = switch("count", "Set to `true` to count the objects of all pages")
LISTING = (text("type", "Only objects of this type", f"^{subjects.TYPE_PATTERN}$"), PROJECT, *PAGE, INTERNAL, COUNT)
OBJECT_ID = "`<type>:<id>`, or `<type>:<name>` with any name that has no slash"
NAMED = "Without `name`, the object gets a new ID."
RAW = "Requires `objects:manage`, and a type whose `management` is `raw`."
ALL_TYPES = f"""\
Without `type`, it lists all types, one after another, and names those in `left_out` that no process serves at the
moment. {LEFT_OUT}"""
PENDING = "List an object's alarms and the messages in its outbox"
SEARCH = "/durable-objects/{type}/searches/{name}"
SEARCHED = """\
The arguments are query parameters; lists and maps are in JSON. A search answers with a page, and takes `limit` and
`cursor` if it declares them. A view has an answer of its own kind."""
WITHOUT_CONTENT = "It shows neither payloads nor arguments."
IDLE = "It leaves once nothing runs and all is committed, and stays (409) while it is used. The next call loads it."
CALL_METHODS = "objects:request"
REQUEST: dict[str, Any] = {
    "access": Access.OPTIONAL,
    "permission": "",
    "needs": f"Requires `{CALL_METHODS}`, and whatever the method itself requires. "
    "A method that allows `anyone()` requires nothing, not even a credential.",
    "raw": True,
    "headers": ("Idempotency-Key", "If-Match", "Deadline", QUERY_ONLY, "traceparent"),
}


SEARCHING: dict[str, Any] = {
    "access": Access.OPTIONAL,
    "permission": "",
    "needs": f"Requires `{CALL_METHODS}`, and whatever the search itself requires. "
    "A search that allows `anyone()` requires nothing, not even a credential.",
    "about": SEARCHED,
    "any_query": True,
    "returns": "The page, or the view's answer",
}


class Result(msgspec.Struct, forbid_unknown_fields=True):
    """The result of a method."""

    result: Annotated[Any, msgspec.Meta(description="By the method's own schema")]


_request_body = msgspec.json.Decoder(RequestBody)
STATE = {"type": "object", "description": "By the type's own schema"}
ARGS = {"type": "object", "description": "By the method's own schema", "default": {}}
NAME = {"type": "string", "minLength": 1, "description": f"1 to {subjects.NAME_LIMIT} bytes"}
TYPE = {"type": "string", "pattern": f"^{subjects.TYPE_PATTERN}$"}
METHOD = {"type": "string", "pattern": f"^{subjects.METHOD_PATTERN}$"}
MEMBER_OF = {"type": "string", "pattern": ID_PATTERN, "description": "The project that the object belongs to"}


def _schema(required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [required], "additionalProperties": False}


class DurableObjectRouter(APIRouter):
    tag = "objects"
    about = "Durable objects of every type"
    permission = "objects:manage"
    body_limit = 0
    variables = (
        variable("object_id", OBJECT_ID, f"^{subjects.TYPE_PATTERN}:{OBJECT_NAME_PATTERN[1:]}"),
        variable("type", "The type's name", TYPE["pattern"]),
        variable("name", "The name of a search or view", METHOD["pattern"]),
    )
    schemas: ClassVar[dict[str, Any]] = {
        "CreateBody": _schema("type", type=TYPE, name=NAME, state=STATE, project=MEMBER_OF),
        "ReplaceBody": _schema("state", state=STATE),
        "RequestBody": _schema("method", method=METHOD, args=ARGS),
    }

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges, catalogue: TypeCatalogue) -> None:
        super().__init__(forwarder, settings, charges)
        self._catalogue = catalogue
        self._lists = ObjectLists(forwarder)

    @post(f"{OBJECT}/request", "request", "Call a method of an object", None, Result, RequestBody, **REQUEST)
    async def request(self, request: HttpRequest) -> HttpResponse:
        type, id = request.object
        has_open = self._catalogue.is_open(type)
        if not has_open:
            # The body of a caller that may call nothing isn't read.
            request.require(CALL_METHODS)
        body = bodies.decode(_request_body, await request.body(self._max_body), "args")
        if has_open and not self._catalogue.is_open(type, body.method):
            request.require(CALL_METHODS)
        self._catalogue.check(type)
        if not subjects.is_method(body.method):
            raise Failure(
                "unknown-method",
                "a method's name must match [a-z][a-z0-9_]* and have at most 64 characters",
                field="method",
            )
        subject = subjects.call(type, id, body.method)
        options = self._forwarder.options(request)
        if b"query-only" in request.headers:
            options["headers"][QUERY_ONLY] = "true"
        reply = await self._forwarder.request(subject, bytes(body.args), options)
        return HttpResponse(200, b'{"result":%b}' % (reply or b"null"))

    @post(OBJECTS, "create_object", "Create an object", None, DurableObject, CreateBody, about=NAMED, location=OBJECT)
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
        reply = await self._forwarder.request_with_body(subjects.call(body.type, id, objects.CREATE), payload, options)
        return versioned_response(reply, 201, (b"location", f"/durable-objects/{body.type}:{id}".encode()))

    @get(OBJECT, "read_object", "Show an object", response=DurableObject, failures=(409, 412))
    async def read(self, request: HttpRequest) -> HttpResponse:
        return conditional_response(request, versioned_response(await self._manage(request, objects.READ)))

    @put(OBJECT, "replace_object", "Replace an object's state", None, DurableObject, ReplaceBody, needs=RAW)
    async def replace(self, request: HttpRequest, body: ReplaceBody) -> HttpResponse:
        return versioned_response(await self._manage(request, objects.REPLACE, request.content))

    @delete(OBJECT, "delete_object", "Delete an object")
    async def delete(self, request: HttpRequest) -> HttpResponse:
        await self._manage(request, objects.DELETE)
        return HttpResponse(204, headers=())

    @get(f"{OBJECT}/pending", "list_pending", PENDING, response=PendingWork, about=WITHOUT_CONTENT, needs=RAW)
    async def pending(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, await self._manage(request, objects.PENDING))

    @post(f"{OBJECT}/hibernate", "hibernate_object", "Let an object leave memory", about=IDLE, headers=("Deadline",))
    async def hibernate(self, request: HttpRequest) -> HttpResponse:
        await self._manage(request, objects.HIBERNATE)
        return HttpResponse(204, headers=())

    @get(OBJECTS, "list_objects", "List objects by type and ID", response=ObjectPage, query=LISTING, about=ALL_TYPES)
    async def list(self, request: HttpRequest) -> HttpResponse:
        values = request.parameters
        internal, type = self._shows_internal(request), values.get("type")
        if type is not None:
            self._catalogue.check(type, internal)
        project, options = values.get("project"), self._forwarder.options(request)
        wanted = values.get("cursor"), parameters.parse_limit(values), project, options
        counted = parameters.parse_flag(values, COUNT.name)
        if type is not None:
            page = await self._lists.list_type(type, *wanted)
            if counted:
                page.count = await self._lists.count_type(type, project, options)
        else:
            types = self._catalogue.names(internal)
            page = await self._lists.list_types(types, *wanted)
            if counted:
                page.count, left_out = await self._lists.count_types(types, project, options)
                page.left_out = left_out or page.left_out
        return HttpResponse(200, msgspec.json.encode(page))

    @get(SEARCH, "search_objects", "Ask a search or view of a type", None, dict[str, Any], **SEARCHING)
    async def search(self, request: HttpRequest) -> HttpResponse:
        type, name = request.path["type"], request.path["name"]
        found = self._catalogue.find_query(type, name)
        if found is None or found.description.needs_credential:
            request.require(CALL_METHODS)
        if found is None:
            self._catalogue.check(type)
            raise Failure("unknown-method", f"{type} has no search or view of this name", field="name")
        values = request.parameters
        if PAGE[0].name in found.properties:
            await self._charges.add_page(request, parameters.parse_limit(values))
        payload = msgspec.json.encode({argument: found.convert(argument, text) for argument, text in values.items()})
        options = self._forwarder.options(request)
        return HttpResponse(200, await self._forwarder.request_with_body(subjects.query(type, name), payload, options))

    async def _manage(self, request: HttpRequest, method: str, payload: bytes = b"{}") -> bytes:
        type, id = self._address(request)
        subject = subjects.call(type, id, method)
        return await self._forwarder.request(subject, payload, self._forwarder.options(request))

    def _address(self, request: HttpRequest) -> tuple[str, str]:
        type, id = request.object
        self._catalogue.check(type)
        return type, id

    def _shows_internal(self, request: HttpRequest) -> bool:
        internal = parameters.parse_flag(request.parameters, INTERNAL.name)
        if internal and not request.principal.has(fleet.READ):
            raise Failure("forbidden", f"internal types require the permission {fleet.READ}", field=INTERNAL.name)
        return internal
