"""`/durable-objects/{object_id}/versions`: the history of an object whose type keeps one."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import msgspec

from aidevos.contracts import objects, subjects
from aidevos.contracts.envelope import ForkBody
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import Comparison, DurableObject, VersionPage, VersionState
from aidevos.settings import Settings

from ..catalogue import TypeCatalogue
from ..forwarder import Forwarder, new_object_id
from ..http import parameters
from ..http.charges import Charges
from ..http.parameters import PAGE, Parameter, variable
from ..http.request import HttpRequest
from ..http.responses import JSON_HEADER, HttpResponse
from ..http.versions import conditional_response, versioned_response
from .api_router import APIRouter
from .objects import MEMBER_OF, NAME, OBJECT, DurableObjectRouter
from .operation import get, post

VERSIONS = f"{OBJECT}/versions"
VERSION = f"{VERSIONS}/{{version}}"
KEPT = "Types with the option `history` keep versions of their objects; for others it answers 404."
RAW = "Requires `objects:manage`, and a type whose `management` is `raw`."
RESTORED = "Requires `objects:manage`, and a type whose `management` isn't `read_only`."
WITH = Parameter("to", "The version to compare with; by default the state of now", {"type": "integer", "minimum": 0})
FORKED = "The new object has the type and this state. Without `name`, it gets a new ID. " + KEPT
_is_number = re.compile(r"[0-9]{1,18}").fullmatch


class VersionRouter(APIRouter):
    tag = "objects"
    permission = "objects:manage"
    body_limit = 0
    variables = (*DurableObjectRouter.variables, variable("version", "The number of a version", "^[0-9]{1,18}$"))
    schemas: ClassVar[dict[str, Any]] = {
        "ForkBody": {
            "type": "object",
            "properties": {"name": NAME, "project": MEMBER_OF},
            "additionalProperties": False,
        }
    }

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges, catalogue: TypeCatalogue) -> None:
        super().__init__(forwarder, settings, charges)
        self._catalogue = catalogue

    @get(VERSIONS, "list_versions", "List an object's versions", response=VersionPage, query=PAGE, about=KEPT)
    async def list(self, request: HttpRequest) -> HttpResponse:
        payload = parameters.encode_page(request.parameters)
        return HttpResponse(200, await self._ask(request, objects.VERSIONS, payload), (JSON_HEADER,))

    @get(VERSION, "read_version", "Show a version with its state", response=VersionState, about=KEPT, needs=RAW)
    async def read(self, request: HttpRequest) -> HttpResponse:
        return conditional_response(request, versioned_response(await self._read(request)))

    @get(
        f"{VERSION}/patch",
        "compare_versions",
        "Compare two versions as a JSON patch (RFC 6902)",
        response=Comparison,
        query=(WITH,),
        about=KEPT,
        needs=RAW,
    )
    async def compare(self, request: HttpRequest) -> HttpResponse:
        to = parameters.parse_integer(request.parameters, WITH.name)
        payload = msgspec.json.encode({"before": _version_of(request), "after": to})
        return HttpResponse(200, await self._ask(request, objects.COMPARE, payload), (JSON_HEADER,))

    @post(
        f"{VERSION}/restore",
        "restore_version",
        "Make a version the state of now",
        response=DurableObject,
        about=KEPT,
        needs=RESTORED,
    )
    async def restore(self, request: HttpRequest) -> HttpResponse:
        payload = msgspec.json.encode({"version": _version_of(request)})
        return versioned_response(await self._ask(request, objects.RESTORE, payload))

    @post(
        f"{VERSION}/fork",
        "fork_version",
        "Create an object from a version",
        None,
        DurableObject,
        ForkBody,
        optional=True,
        about=FORKED,
        needs=RAW,
        location=OBJECT,
    )
    async def fork(self, request: HttpRequest, body: ForkBody) -> HttpResponse:
        type, _ = self._address(request)
        await self._forwarder.bind_key(request)
        found = msgspec.json.decode(await self._read(request))
        if found["deleted"]:
            raise Failure("conflict", f"version {found['version']} is the deletion of the object")
        id = new_object_id(request, type) if body.name is None else subjects.id_from_name(type, body.name)
        arguments = {"state": found["state"], "project": body.project}
        options = self._forwarder.options(request)
        subject = subjects.call(type, id, objects.CREATE)
        reply = await self._forwarder.request_with_body(subject, msgspec.json.encode(arguments), options)
        return versioned_response(reply, 201, (b"location", f"/durable-objects/{type}:{id}".encode()))

    async def _read(self, request: HttpRequest) -> bytes:
        payload = msgspec.json.encode({"version": _version_of(request)})
        return await self._ask(request, objects.READ_VERSION, payload)

    async def _ask(self, request: HttpRequest, method: str, payload: bytes) -> bytes:
        type, id = self._address(request)
        options = self._forwarder.options(request)
        return await self._forwarder.request_with_body(subjects.call(type, id, method), payload, options)

    def _address(self, request: HttpRequest) -> tuple[str, str]:
        type, id = request.object
        self._catalogue.check(type)
        return type, id


def _version_of(request: HttpRequest) -> int:
    text = request.path["version"]
    if not _is_number(text):
        raise Failure("not-found", "a version is a number")
    return int(text)
