"""`/data`: collections and their items. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects
from aidevos.contracts.data import (
    BULK_LIMIT,
    COLLECTION_TYPE,
    FIND,
    ITEM_TYPE,
    VISIBLE,
    BulkResult,
    BulkResults,
    Config,
    ReplaceItemBody,
    check_collection,
    item_object,
)
from aidevos.contracts.errors import Failure
from aidevos.settings import Settings

from .. import bodies, headers, parameters
from ..answers import Answer
from ..calls import Calls
from ..item_calls import caller_of, create_body, make_item, part, try_to_make
from ..new_ids import new_id
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

ITEMS_AT_ONCE = 64
QUERY = ("filter", "sort", "fields", "limit", "cursor", "count")
CONFIG_LIMIT = 512 * 1024


class _Configured(msgspec.Struct):
    created_at: str
    updated_at: str


_configured = msgspec.json.Decoder(_Configured)
_any = msgspec.json.Decoder(msgspec.Raw)
_config = msgspec.json.Decoder(Config)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_filter = msgspec.json.Decoder(dict[str, msgspec.Raw])
_replace = msgspec.json.Decoder(ReplaceItemBody)


class DataRouter:
    """`/data/collections` and what is below it."""

    def __init__(self, calls: Calls, settings: Settings) -> None:
        self._calls = calls
        self._max_body = settings.max_body

    def routes(self, anyone: Guard) -> list[Route]:
        collection = "/data/collections/{collection}"
        return [
            Route(f"{collection}/config", Resource(anyone, get=self.config)),
            Route(
                f"{collection}/{{item_id}}/history",
                Resource(anyone, parameters=("limit", "cursor"), get=self.history),
            ),
            Route(f"{collection}/{{item_id}}/restore", Resource(anyone, parameters=("version",), post=self.restore)),
            Route(
                f"{collection}/{{item_id}}",
                Resource(
                    anyone,
                    parameters=("version", "fields"),
                    get=self.read,
                    put=self.replace,
                    patch=self.patch,
                    delete=self.delete,
                ),
            ),
            Route(
                collection,
                Resource(
                    anyone,
                    parameters=("validate", *QUERY),
                    get=self.find,
                    put=self.configure,
                    delete=self.drop,
                    post=self.create,
                ),
            ),
            Route("/data/collections", Resource(anyone, parameters=("limit", "cursor", "project"), get=self.visible)),
        ]

    async def configure(self, incoming: Incoming) -> Answer:
        check_collection(incoming.path["collection"])
        body = await incoming.body(CONFIG_LIMIT)
        bodies.decode(_config, body, "schema")
        validate = incoming.parameters.get("validate", "all")
        if validate not in ("all", "new"):
            raise Failure("invalid", "it is all or new", field="validate")
        only_new = _only_new(incoming)
        payload = b'{"validate":"%b","only_new":%b,"config":%b}'
        payload %= validate.encode(), b"true" if only_new else b"false", body
        with _nothing_there():
            reply = await self._ask_collection(incoming, "configure", payload, within="args.config")
        shown = _configured.decode(reply)
        status = 201 if shown.created_at == shown.updated_at else 200
        return versioned(reply, status)

    async def config(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._ask_collection(incoming, "config", b"{}")))

    async def drop(self, incoming: Incoming) -> Answer:
        await self._ask_collection(incoming, "delete", b"{}")
        return Answer(204, headers=())

    async def create(self, incoming: Incoming) -> Answer:
        body = await incoming.body(self._max_body)
        if body.lstrip()[:1] == b"[":
            items = bodies.decode(_list, body, "data")
            await self._calls.use_key(incoming, body)
            return await self._create_many(incoming, items)
        wanted = bodies.decode(create_body, body, "data")
        await self._calls.use_key(incoming, body)
        collection, options = incoming.path["collection"], self._calls.options(incoming)
        id = wanted.id or new_id(options["request_id"], collection, caller_of(incoming))
        return await self._make(collection, id, wanted.data, options)

    async def _create_many(self, incoming: Incoming, bodies: list[msgspec.Raw]) -> Answer:
        if len(bodies) > BULK_LIMIT:
            raise Failure("invalid", f"a list has at most {BULK_LIMIT} items", field="body")
        options, caller = self._calls.options(incoming), caller_of(incoming)
        collection = incoming.path["collection"]
        free = asyncio.Semaphore(ITEMS_AT_ONCE)

        async def make(number: int, body: msgspec.Raw) -> BulkResult:
            async with free:
                return await try_to_make(self._calls, collection, bytes(body), caller, part(options, number))

        results = await asyncio.gather(*(make(number, body) for number, body in enumerate(bodies)))
        return Answer(207, msgspec.json.encode(BulkResults(results=results)))

    async def find(self, incoming: Incoming) -> Answer:
        values = incoming.parameters
        args: dict[str, Any] = {**values, "collection": incoming.path["collection"]}
        args["limit"] = parameters.limit(values)
        args["count"] = parameters.flag(values, "count")
        if "filter" in values:
            args["filter"] = _filter_of(values["filter"])
        return await self._search(incoming, ITEM_TYPE, FIND, args)

    async def visible(self, incoming: Incoming) -> Answer:
        args = {**incoming.parameters, "limit": parameters.limit(incoming.parameters)}
        return await self._search(incoming, COLLECTION_TYPE, VISIBLE, args)

    async def _search(self, incoming: Incoming, type: str, view: str, args: dict[str, Any]) -> Answer:
        subject = subjects.query(type, view)
        payload = msgspec.json.encode(args)
        return Answer(200, await self._calls.arguments(subject, payload, self._calls.options(incoming)))

    async def read(self, incoming: Incoming) -> Answer:
        version = parameters.integer(incoming.parameters, "version")
        args = incoming.parameters if version is None else {**incoming.parameters, "version": version}
        payload = msgspec.json.encode(args) if args else b"{}"
        return unless_known(incoming, versioned(await self._ask_item(incoming, "read", payload)))

    async def history(self, incoming: Incoming) -> Answer:
        payload = parameters.page(incoming.parameters)
        return Answer(200, await self._ask_item(incoming, "history", payload))

    async def restore(self, incoming: Incoming) -> Answer:
        version = parameters.integer(incoming.parameters, "version")
        if version is None:
            raise Failure("invalid", "say which version is to be restored", field="version")
        return versioned(await self._ask_item(incoming, "restore", b'{"version":%d}' % version))

    async def replace(self, incoming: Incoming) -> Answer:
        body = await incoming.body(self._max_body)
        data = bodies.decode(_replace, body, "data").data
        if not _only_new(incoming):
            return versioned(await self._ask_item(incoming, "replace", body))
        collection, id = incoming.path["collection"], incoming.path["item_id"]
        with _nothing_there():
            return await self._make(collection, id, data, self._calls.options(incoming))

    async def patch(self, incoming: Incoming) -> Answer:
        body = await incoming.body(self._max_body, patches=(bodies.MERGE_PATCH, bodies.JSON_PATCH))
        kind = b"merge" if bodies.kind_of(incoming.headers) == bodies.MERGE_PATCH else b"json"
        bodies.decode(_any, body, "data")
        payload = b'{"kind":"%b","patch":%b}' % (kind, body)
        return versioned(await self._ask_item(incoming, "patch", payload, within="args.patch"))

    async def delete(self, incoming: Incoming) -> Answer:
        await self._ask_item(incoming, "delete", b"{}")
        return Answer(204, headers=())

    async def _make(self, collection: str, id: str, data: msgspec.Raw, options: dict[str, Any]) -> Answer:
        reply = await make_item(self._calls, collection, id, data, options)
        location = f"/data/collections/{collection}/{id}".encode()
        return versioned(reply, 201, (b"location", location))

    async def _ask_item(self, incoming: Incoming, method: str, payload: bytes, within: str = "args") -> bytes:
        id = item_object(incoming.path["collection"], incoming.path["item_id"])
        subject = subjects.call(ITEM_TYPE, id, method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)

    async def _ask_collection(self, incoming: Incoming, method: str, payload: bytes, within: str = "args") -> bytes:
        name = incoming.path["collection"]
        if not subjects.is_id(name):
            raise Failure("not-found", "there is no such collection")
        subject = subjects.call(COLLECTION_TYPE, name, method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)


def _filter_of(text: str) -> Any:
    try:
        return _filter.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise Failure("invalid", "a filter is a JSON object", field="filter") from None


def _only_new(incoming: Incoming) -> bool:
    """Whether a PUT is to make something, and to change nothing."""
    condition = incoming.header(b"if-none-match")
    if condition is None:
        return False
    if headers.entity_tags("If-None-Match", condition) != "*":
        raise Failure("bad-request", "a PUT takes If-None-Match: * and no other", field="If-None-Match")
    return True


@contextmanager
def _nothing_there() -> Iterator[None]:
    """What exists is a condition that has failed (RFC 9110 §13.1.2), but for values of unique fields."""
    try:
        yield
    except Failure as failure:
        if failure.code != "exists" or failure.field not in (None, "id"):
            raise
        raise Failure("precondition-failed", failure.detail, field="If-None-Match") from None
