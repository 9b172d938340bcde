"""`/data`: collections and their items, one at a time, as lists, or as files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec

from aidevos.contracts import data as contract
from aidevos.contracts import subjects
from aidevos.contracts.data import COLLECTION_TYPE, ITEM_TYPE, Collection, CreateItemBody, Item, ReplaceItemBody
from aidevos.contracts.errors import Failure
from aidevos.settings import Settings

from ..forwarder import Forwarder
from ..http import bodies, headers, parameters
from ..http.charges import Charges
from ..http.parameters import ID_PATTERN, PAGE, PROJECT, switch, text, variable
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..http.versions import versioned_response
from ..item_calls import caller_of, create_body, make_item, make_items
from ..item_files import LINE_LIMIT, ItemsRequest, export_lines, import_lines
from ..line_files import ImportLimits
from ..new_ids import new_id
from ..transfers import Lines, Transfers
from .api_router import APIRouter
from .operation import Access, Target, Text, delete, get, in_path, patch, post, put

CONFIG_LIMIT = 512 * 1024
LIST, SEARCH = subjects.query(COLLECTION_TYPE, contract.VISIBLE), subjects.query(ITEM_TYPE, contract.FIND)
COLLECTION = "/data/collections/{collection}"
ITEM = f"{COLLECTION}/{{item_id}}"
# The path names the collection before the item.
OF_PATH = Target(ITEM_TYPE, lambda request, body: contract.item_object(*request.path.values()))
OF_NAME = Target(COLLECTION_TYPE, in_path("collection", "collection"))
FIELDS = text("fields", "Paths in `data`, separated by commas; only these are shown")
VERSION = text("version", "An earlier version, from the history", "^[0-9]{1,9}$")
VALIDATE = text("validate", "`all` if a new schema also applies to existing items, otherwise `new`", "^(all|new)$")
FINDING = (
    text("filter", 'A filter in JSON, such as `{"price": {"gte": 10}}`'),
    text("sort", "Paths in `data`, such as `-price,name`; a minus reverses the order"),
    FIELDS,
    *PAGE,
    switch("count", "Set to `true` to count all matching items"),
)
CONFIGURE = "Create a collection, or change it"
REPLACE = "Replace an item, or create it with `If-None-Match: *`"
# The headers of changes that create or replace something.
PUTTING: dict[str, Any] = {"headers": ("Idempotency-Key", "If-Match", "If-None-Match", "Deadline")}
# A collection may require `If-Match` for changes.
BLIND: dict[str, Any] = {"failures": (428,)}
CONFIGURING: dict[str, Any] = PUTTING | {"others": {201: Collection}, "limit": CONFIG_LIMIT, "query": (VALIDATE,)}
REPLACING: dict[str, Any] = BLIND | PUTTING | {"others": {201: Item}}
PATCHING: dict[str, Any] = BLIND | {"body": msgspec.Raw, "patches": (bodies.MERGE_PATCH, bodies.JSON_PATCH)}
# Each item is judged by itself: one that doesn't match the schema gets a result that says so.
MANY = {
    "type": "array",
    "maxItems": contract.BULK_LIMIT,
    "items": {"anyOf": [{"$ref": f"#/components/schemas/{CreateItemBody.__name__}"}, {}]},
}
MAKING: dict[str, Any] = {"others": {207: contract.BulkResults}, "raw": True, "location": ITEM}
LINES = Text(bodies.NDJSON)
IMPORT_ABOUT = """\
The body is read only if the caller may create items. It is bounded by `AIDEVOS_MAX_IMPORT` and
`AIDEVOS_MAX_IMPORT_LINES`; after a 413, the lines before the bound are imported."""
IMPORT: dict[str, Any] = {"raw": True, "optional": True, "returns": "One result per line", "about": IMPORT_ABOUT}
_NDJSON = ((b"content-type", bodies.NDJSON.encode()),)


class _Configured(msgspec.Struct):
    created_at: str
    updated_at: str


_configured = msgspec.json.Decoder(_Configured)
_NO_ITEM = msgspec.Raw(b"")
# The items of a list. A list type would only find out that there are too many after it has made all of them.
_Items = msgspec.defstruct(
    "_Items",
    [(f"item_{number}", msgspec.Raw, _NO_ITEM) for number in range(contract.BULK_LIMIT)],
    array_like=True,
    forbid_unknown_fields=True,
)
_items = msgspec.json.Decoder(_Items)


def _read(request: HttpRequest, body: None) -> dict[str, Any]:
    version = parameters.parse_integer(request.parameters, "version")
    return {**request.parameters} if version is None else {**request.parameters, "version": version}


def _patch(request: HttpRequest, body: msgspec.Raw) -> dict[str, Any]:
    return {"kind": "merge" if bodies.media_type_of(request.headers) == bodies.MERGE_PATCH else "json", "patch": body}


def _restore(request: HttpRequest, body: None) -> dict[str, int]:
    version = parameters.parse_integer(request.parameters, "version")
    if version is None:
        raise Failure("invalid", "name the version to restore", field="version")
    return {"version": version}


def _find(request: HttpRequest, body: None) -> dict[str, Any]:
    values = request.parameters
    args: dict[str, Any] = {**values, "collection": request.path["collection"]}
    args["limit"] = parameters.parse_limit(values)
    args["count"] = parameters.parse_flag(values, "count")
    if "filter" in values:
        args["filter"] = parameters.parse_json_object(values, "filter", "a filter")
    return args


class DataRouter(APIRouter):
    tag = "data"
    about = "Collections of documents"
    access = Access.OPTIONAL
    needs = "The collection's rules apply."
    body_limit = 0
    variables = (
        variable("collection", "The collection's name", f"^{contract.COLLECTION_PATTERN}$"),
        variable("item_id", "The item's ID in its collection", ID_PATTERN),
    )
    # fmt: off
    rows = (
        get("/data/collections", "list_collections", "List the collections that the caller may see", LIST,
            contract.CollectionPage, query=(*PAGE, PROJECT)),
        get(f"{COLLECTION}/config", "read_collection", "Show a collection's configuration", (OF_NAME, "config"),
            Collection),
        delete(COLLECTION, "delete_collection", "Delete a collection and its items", (OF_NAME, "delete")),
        get(COLLECTION, "find_items", "Find items", SEARCH, contract.ItemPage, query=FINDING, args=_find),
        get(ITEM, "read_item", "Show an item", OF_PATH, Item, query=(VERSION, FIELDS), args=_read),
        delete(ITEM, "delete_item", "Delete an item", (OF_PATH, "delete"), **BLIND),
        patch(ITEM, "patch_item", "Change an item by a JSON patch (RFC 6902) or", OF_PATH, Item, ReplaceItemBody,
              args=_patch, **PATCHING),
        get(f"{ITEM}/history", "item_history", "List an item's versions, latest first", (OF_PATH, "history"),
            contract.History, query=PAGE),
        post(f"{ITEM}/restore", "restore_item", "Restore the data of an earlier version", (OF_PATH, "restore"),
             Item, query=(VERSION,), args=_restore, **BLIND),
    )
    # fmt: on

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges) -> None:
        super().__init__(forwarder, settings, charges)
        self._transfers = Transfers(settings)
        self._import_limits = ImportLimits(settings.max_import_lines, settings.max_import, LINE_LIMIT)

    @put(COLLECTION, "configure_collection", CONFIGURE, None, Collection, contract.Config, **CONFIGURING)
    async def configure(self, request: HttpRequest, body: contract.Config) -> HttpResponse:
        contract.check_collection(request.path["collection"])
        validate = request.parameters.get("validate", "all")
        if validate not in ("all", "new"):
            raise Failure("invalid", "this must be all or new", field="validate")
        payload = b'{"validate":"%b","only_new":%b,"config":%b}'
        payload %= validate.encode(), b"true" if headers.only_new(request.headers) else b"false", request.content
        with _refuse_existing():
            reply = await self._ask(request, OF_NAME, "configure", payload, "args.config")
        shown = _configured.decode(reply)
        return versioned_response(reply, 201 if shown.created_at == shown.updated_at else 200)

    @post(
        COLLECTION,
        "create_items",
        "Create an item, or every item of a list",
        None,
        Item,
        (CreateItemBody, MANY),
        **MAKING,
    )
    async def create(self, request: HttpRequest) -> HttpResponse:
        body = await request.body(self._max_body)
        if body.lstrip()[:1] == b"[":
            decoded = msgspec.structs.astuple(bodies.decode(_items, body, "data"))
            items = [item for item in decoded if item is not _NO_ITEM]
            await self._charges.add_items(request, len(items))
            await self._forwarder.bind_key(request)
            return await self._create_many(request, items)
        wanted = bodies.decode(create_body, body, "data")
        await self._forwarder.bind_key(request)
        collection, options = request.path["collection"], self._forwarder.options(request)
        id = wanted.id or new_id(options["request_id"], collection, caller_of(request))
        return await self._make(collection, id, wanted.data, options)

    async def _create_many(self, request: HttpRequest, bodies: list[msgspec.Raw]) -> HttpResponse:
        numbered = [(number, bytes(body)) for number, body in enumerate(bodies)]
        results = await make_items(self._forwarder, request, request.path["collection"], numbered)
        return HttpResponse(207, msgspec.json.encode(contract.BulkResults(results=results)))

    @put(ITEM, "replace_item", REPLACE, None, Item, ReplaceItemBody, **REPLACING)
    async def replace(self, request: HttpRequest, body: ReplaceItemBody) -> HttpResponse:
        if not headers.only_new(request.headers):
            return versioned_response(await self._ask(request, OF_PATH, "replace", request.content))
        collection, id = request.path["collection"], request.path["item_id"]
        with _refuse_existing():
            return await self._make(collection, id, body.data, self._forwarder.options(request))

    @get(
        f"{COLLECTION}/export",
        "export_items",
        "Show all items, sorted by ID",
        response=LINES,
        returns="One item per line",
    )
    async def export(self, request: HttpRequest) -> HttpResponse:
        return await self._transfer(request, partial(export_lines, self._items_request(request)))

    @post(f"{COLLECTION}/import", "import_items", "Create an item from each line", None, LINES, LINES, **IMPORT)
    async def import_items(self, request: HttpRequest) -> HttpResponse:
        make_lines = partial(import_lines, self._items_request(request), self._import_limits)
        return await self._transfer(request, make_lines)

    def _items_request(self, request: HttpRequest) -> ItemsRequest:
        return ItemsRequest(self._forwarder, self._charges, request, request.path["collection"])

    async def _transfer(self, request: HttpRequest, make_lines: Callable[[], Awaitable[Lines]]) -> HttpResponse:
        chunks = await self._transfers.start(caller_of(request), make_lines)
        return HttpResponse(200, headers=_NDJSON, chunks=chunks)

    async def _make(self, collection: str, id: str, data: msgspec.Raw, options: dict[str, Any]) -> HttpResponse:
        reply = await make_item(self._forwarder, collection, id, data, options)
        location = f"/data/collections/{collection}/{id}".encode()
        return versioned_response(reply, 201, (b"location", location))

    async def _ask(
        self, request: HttpRequest, target: Target, method: str, payload: bytes, within: str = "args"
    ) -> bytes:
        subject = subjects.call(target.type, target.id(request, None), method)
        return await self._forwarder.request_with_body(subject, payload, self._forwarder.options(request), within)


@contextmanager
def _refuse_existing() -> Iterator[None]:
    """Report an existing object as a failed precondition (RFC 9110 §13.1.2), but not a duplicate unique value."""
    try:
        yield
    except Failure as failure:
        if failure.code != "exists" or failure.field not in (None, "id"):
            raise
        raise Failure("precondition-failed", failure.detail, field="If-None-Match") from None
