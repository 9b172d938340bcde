"""`/data`: collections and their items. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects
from aidevos.contracts.data import (
    COLLECTION_TYPE,
    ITEM_TYPE,
    Config,
    CreateItemBody,
    ReplaceItemBody,
    item_object,
)
from aidevos.contracts.errors import Failure
from aidevos.settings import Settings
from services.http_gateway import bodies, headers, parameters
from services.http_gateway.answers import JSON_HEADER, Answer, Header
from services.http_gateway.calls import Calls
from services.http_gateway.resource import Guard, Incoming, Resource

DEFAULT_LIMIT = 50
CONFIG_LIMIT = 512 * 1024


class _Versioned(msgspec.Struct):
    """What the gateway reads of an item or a collection, which passes through as the host wrote it."""

    version: int


class _Configured(_Versioned):
    created_at: str
    updated_at: str


_configured = msgspec.json.Decoder(_Configured)
_any = msgspec.json.Decoder(msgspec.Raw)
_versioned = msgspec.json.Decoder(_Versioned)
_config = msgspec.json.Decoder(Config)
_create = msgspec.json.Decoder(CreateItemBody)
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
                    parameters=("version",),
                    get=self.read,
                    put=self.replace,
                    patch=self.patch,
                    delete=self.delete,
                ),
            ),
            Route(
                collection,
                Resource(anyone, parameters=("validate",), put=self.configure, delete=self.drop, post=self.create),
            ),
        ]

    async def configure(self, incoming: Incoming) -> Answer:
        body = await incoming.body(CONFIG_LIMIT)
        bodies.decode(_config, body, "schema")
        validate = incoming.parameters.get("validate", "all")
        if validate not in ("all", "new"):
            raise Failure("invalid", "it is all or new", field="validate")
        payload = b'{"validate":"%b","config":%b}' % (validate.encode(), body)
        reply = await self._ask_collection(incoming, "configure", payload, within="args.config")
        shown = _configured.decode(reply)
        status = 201 if shown.created_at == shown.updated_at else 200
        return Answer(status, reply, (JSON_HEADER, _etag(shown.version)))

    async def config(self, incoming: Incoming) -> Answer:
        return _conditional(incoming, await self._ask_collection(incoming, "config", b"{}"))

    async def drop(self, incoming: Incoming) -> Answer:
        await self._ask_collection(incoming, "delete", b"{}")
        return Answer(204, headers=())

    async def create(self, incoming: Incoming) -> Answer:
        body = bodies.decode(_create, await incoming.body(self._max_body), "data")
        collection, options = incoming.path["collection"], self._calls.options(incoming)
        id = body.id or _new_id(collection, incoming.principal.subject, options["request_id"])
        return await self._make(collection, id, body.data, options)

    async def read(self, incoming: Incoming) -> Answer:
        version = parameters.integer(incoming.parameters, "version")
        payload = b"{}" if version is None else b'{"version":%d}' % version
        return _conditional(incoming, await self._ask_item(incoming, "read", payload))

    async def history(self, incoming: Incoming) -> Answer:
        limit = parameters.limit(incoming.parameters, DEFAULT_LIMIT)
        payload = msgspec.json.encode({**incoming.parameters, "limit": limit})
        return Answer(200, await self._ask_item(incoming, "history", payload))

    async def restore(self, incoming: Incoming) -> Answer:
        version = parameters.integer(incoming.parameters, "version")
        if version is None:
            raise Failure("invalid", "say which version is to be restored", field="version")
        return _shown(200, await self._ask_item(incoming, "restore", b'{"version":%d}' % version))

    async def replace(self, incoming: Incoming) -> Answer:
        body = await incoming.body(self._max_body)
        data = bodies.decode(_replace, body, "data").data
        condition = incoming.header(b"if-none-match")
        if condition is None:
            return _shown(200, await self._ask_item(incoming, "replace", body))
        if headers.entity_tags("If-None-Match", condition) != "*":
            raise Failure("bad-request", "a PUT takes If-None-Match: * and no other", field="If-None-Match")
        try:
            return await self._make(
                incoming.path["collection"], incoming.path["item_id"], data, self._calls.options(incoming)
            )
        except Failure as failure:
            if failure.code == "exists":
                raise Failure("precondition-failed", failure.detail, field="If-None-Match") from None
            raise

    async def patch(self, incoming: Incoming) -> Answer:
        body = await incoming.body(self._max_body, patches=(bodies.MERGE_PATCH, bodies.JSON_PATCH))
        kind = b"merge" if bodies.kind_of(incoming.headers) == bodies.MERGE_PATCH else b"json"
        bodies.decode(_any, body, "data")
        payload = b'{"kind":"%b","patch":%b}' % (kind, body)
        return _shown(200, await self._ask_item(incoming, "patch", payload, within="args.patch"))

    async def delete(self, incoming: Incoming) -> Answer:
        await self._ask_item(incoming, "delete", b"{}")
        return Answer(204, headers=())

    async def _make(self, collection: str, id: str, data: msgspec.Raw, options: dict[str, Any]) -> Answer:
        payload = msgspec.json.encode({"collection": collection, "id": id, "data": data})
        subject = subjects.call(ITEM_TYPE, item_object(collection, id), "create")
        reply = await self._calls.arguments(subject, payload, options)
        location = f"/data/collections/{collection}/{id}".encode()
        return _shown(201, reply, (b"location", location))

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


def _shown(status: int, reply: bytes, *more: Header) -> Answer:
    return Answer(status, reply, (JSON_HEADER, _etag(_versioned.decode(reply).version), *more))


def _conditional(incoming: Incoming, reply: bytes) -> Answer:
    """The answer, or 304 where the caller has it already."""
    etag = _etag(_versioned.decode(reply).version)
    condition = incoming.header(b"if-none-match")
    if condition is not None and not headers.none_match(
        headers.entity_tags("If-None-Match", condition), etag[1].decode()
    ):
        return Answer(304, headers=(etag,))
    return Answer(200, reply, (JSON_HEADER, etag))


def _etag(version: int) -> Header:
    return b"etag", b'"%d"' % version


def _new_id(collection: str, subject: str, key: str | None) -> str:
    """A new ID; with an idempotency key the same one for each repeat, so that a repeat makes no second item."""
    if key is None:
        return subjects.new_id()
    return hashlib.sha256(f"{collection}\0{subject}\0{key}".encode()).hexdigest()[:32]
