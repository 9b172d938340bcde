"""Objects of every type as lines of JSON, and their migration; and the types that the fleet knows."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from aidevos.contracts import fleet, objects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.fleet import AnnouncedTypes
from aidevos.contracts.objects import MigrateBody, MigratedPage
from aidevos.settings import Settings

from .. import object_files
from ..catalogue import TypeCatalogue
from ..forwarder import Forwarder
from ..hosts import Hosts
from ..http import bodies, parameters
from ..http.charges import Charges
from ..http.parameters import PROJECT, one_of, switch, text, variable
from ..http.request import HttpRequest
from ..http.responses import JSON_HEADER, SECRET, HttpResponse
from ..item_calls import caller_of
from ..line_files import Import, ImportLimits, import_lines
from ..object_files import LINE_LIMIT, Export, Transfer, load_objects, migrate_objects
from ..transfers import Lines, Transfers
from .api_router import APIRouter
from .operation import Text, delete, get, post

EXPORT, IMPORT, MIGRATE = "/durable-objects/{type}/export", "/durable-objects/import", "/durable-objects/{type}/migrate"
TYPES, TYPE = "/fleet/types", "/fleet/types/{type}"
MANAGE_TYPES = "objects:manage"
# The header of an export that names the moment which it shows.
MOMENT = "Export-Moment"
CHOOSING = (
    PROJECT,
    text("where", 'Tests of values in the state, such as `{"value": {"gte": 5}, "owner.name": "ada"}`'),
    text("moment", f"Go on with an export: its `{MOMENT}`"),
    text("after", "Go on with an export: the ID of its last whole line"),
)
ON_CONFLICT = one_of("on_conflict", ("fail", "skip", "replace"), "What to do with existing objects; by default `fail`")
DRY_RUN = switch("dry_run", "Set to `true` to check the lines and change nothing")
LINES = Text(bodies.NDJSON)
OF_OWNER = "Of a type whose `management` is `read_only`, only the owner of the fleet may see and load states."
NEEDS = f"Requires `{objects.TRANSFER}`."
EXPORTED = f"""\
All lines show one moment, which the header `{MOMENT}` names. An answer that breaks off ends without its last chunk: ask
again with this moment and the ID of the last whole line to go on. MongoDB keeps the moment for 5 minutes by default."""
IMPORTED = """\
Each line is loaded by a command of its object, which its host commits, while the object may be in use. The results
follow the whole body, which is bounded by `AIDEVOS_MAX_IMPORT` and `AIDEVOS_MAX_IMPORT_LINES`. If the answer breaks
off, send the same lines again under the same `Idempotency-Key`: no line is loaded twice."""
MIGRATED = "It examines some objects, and lets those of an older schema store their states anew. It can be repeated."
FORGOTTEN = "It leaves lists and documents. Its objects stay in the database, and come back with a host that serves it."
SECRETS: dict[str, Any] = {"response": LINES, "secret": True, "returns": "One object per line"}
LOADED: dict[str, Any] = {
    "raw": True,
    "optional": True,
    "returns": "One result per line",
    "about": IMPORTED,
    "query": (ON_CONFLICT, DRY_RUN),
}
READING: dict[str, Any] = {"permission": fleet.READ, "needs": f"Requires `{fleet.READ}`."}
FORGETTING: dict[str, Any] = {"permission": MANAGE_TYPES, "needs": f"Requires `{MANAGE_TYPES}`.", "about": FORGOTTEN}
_NDJSON = (b"content-type", bodies.NDJSON.encode())


class TransferRouter(APIRouter):
    """Exports, imports and migrations under `/durable-objects`, and `/fleet/types`."""

    tag = "objects"
    permission = objects.TRANSFER
    needs = f"{NEEDS} {OF_OWNER}"
    body_limit = 16 * 1024
    variables = (variable("type", "The type's name", f"^{subjects.TYPE_PATTERN}$"),)

    def __init__(
        self, forwarder: Forwarder, settings: Settings, charges: Charges, catalogue: TypeCatalogue, hosts: Hosts
    ) -> None:
        super().__init__(forwarder, settings, charges)
        self._catalogue = catalogue
        self._hosts = hosts
        self._transfers = Transfers(settings)
        self._limits = ImportLimits(settings.max_import_lines, settings.max_import, LINE_LIMIT)

    @get(EXPORT, "export_objects", "Show all objects of a type", query=CHOOSING, about=EXPORTED, **SECRETS)
    async def export(self, request: HttpRequest) -> HttpResponse:
        type, values = request.path["type"], request.parameters
        self._catalogue.check(type)
        args: dict[str, Any] = {**values}
        if "where" in values:
            args["where"] = parameters.parse_json_object(values, "where", "the tests")
        moment = b""

        async def make_lines() -> Lines:
            nonlocal moment
            export = await Export.begin(self._transfer(request), type, args)
            moment = export.moment.encode()
            return export.lines()

        chunks = await self._transfers.start(caller_of(request), make_lines)
        return HttpResponse(200, headers=(_NDJSON, (MOMENT.lower().encode(), moment), *SECRET), chunks=chunks)

    @post(
        IMPORT,
        "import_objects",
        "Load the object in each line",
        None,
        LINES,
        LINES,
        **LOADED,
    )
    async def import_objects(self, request: HttpRequest) -> HttpResponse:
        request.check_lines(self._limits.size)
        values = request.parameters
        on_conflict = values.get(ON_CONFLICT.name, "fail")
        if on_conflict not in ON_CONFLICT.schema["enum"]:
            raise Failure("invalid", "this must be fail, skip or replace", field=ON_CONFLICT.name)
        method = objects.CHECK if parameters.parse_flag(values, DRY_RUN.name) else objects.LOAD
        load = partial(load_objects, self._transfer(request), method, on_conflict)
        wanted = Import(request, self._charges, self._limits, load, object_files.refuse)
        chunks = await self._transfers.start(caller_of(request), partial(import_lines, wanted))
        return HttpResponse(200, headers=(_NDJSON,), chunks=chunks)

    @post(
        MIGRATE,
        "migrate_objects",
        "Store states in today's schema",
        None,
        MigratedPage,
        MigrateBody,
        about=MIGRATED,
        needs=NEEDS,
    )
    async def migrate(self, request: HttpRequest, body: MigrateBody) -> HttpResponse:
        type = request.path["type"]
        self._catalogue.check(type)
        return HttpResponse(200, msgspec.json.encode(await migrate_objects(self._transfer(request), type, body)))

    @get(TYPES, "list_types", "List the types of objects that the fleet knows", response=AnnouncedTypes, **READING)
    async def list_types(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(
            200, msgspec.json.encode(AnnouncedTypes(self._catalogue.announced())), (JSON_HEADER, *SECRET)
        )

    @delete(TYPE, "forget_type", "Forget a type that no host serves", **FORGETTING)
    async def forget_type(self, request: HttpRequest) -> HttpResponse:
        type = request.path["type"]
        if not self._catalogue.is_announced(type):
            raise Failure("unknown-type", "the fleet knows no such type", field="type")
        if any(type in host.partitions for host in (await self._hosts.find()).hosts):
            raise Failure("conflict", f"a host serves the type {type}: stop it first", field="type")
        await self._catalogue.forget(type)
        return HttpResponse(204, headers=())

    def _transfer(self, request: HttpRequest) -> Transfer:
        return Transfer(self._forwarder, self._charges, self._catalogue, request)
