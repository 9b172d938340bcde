"""Calls that make items, for one of them and for many."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import ITEM_TYPE, BulkResult, CreateItemBody, check_collection, item_object
from aidevos.contracts.errors import Failure

from .forwarder import Forwarder
from .http import bodies
from .http.request import HttpRequest
from .new_ids import new_id

ITEMS_AT_ONCE = 64
create_body = msgspec.json.Decoder(CreateItemBody)


def caller_of(request: HttpRequest) -> str:
    """Whose idempotency keys these are: of callers who aren't known, those at one address share them."""
    return request.principal.subject or f"address {request.address}"


async def make_item(
    forwarder: Forwarder, collection: str, id: str, data: msgspec.Raw, options: dict[str, Any]
) -> bytes:
    """The new item as its object shows it; raises `Failure`."""
    check_collection(collection)
    if not subjects.is_id(id):
        raise Failure("invalid", f"an item's ID matches {subjects.ID_PATTERN}", field="id")
    payload = msgspec.json.encode({"collection": collection, "id": id, "data": data})
    return await forwarder.arguments(subjects.call(ITEM_TYPE, item_object(collection, id), "create"), payload, options)


async def try_to_make(
    forwarder: Forwarder, collection: str, body: bytes, caller: str, options: dict[str, Any]
) -> BulkResult:
    """What became of one item of many."""
    try:
        wanted = bodies.decode(create_body, body, "data")
        id = wanted.id or new_id(options["request_id"], collection, caller)
        await make_item(forwarder, collection, id, wanted.data, options)
    except Failure as failure:
        return BulkResult(status=failure.status, problem=msgspec.to_builtins(failure.problem))
    return BulkResult(status=201, id=id)


async def make_items(
    forwarder: Forwarder, request: HttpRequest, collection: str, numbered: Sequence[tuple[int, bytes]]
) -> list[BulkResult]:
    """Make an item of each body, and return what became of each; at most `ITEMS_AT_ONCE` are under way. The request's
    idempotency key and a body's number make the key of each item."""
    options, caller = forwarder.options(request), caller_of(request)
    free = asyncio.Semaphore(ITEMS_AT_ONCE)

    async def make(number: int, body: bytes) -> BulkResult:
        async with free:
            return await try_to_make(forwarder, collection, body, caller, _part(options, number))

    return await asyncio.gather(*(make(number, body) for number, body in numbered))


def _part(options: dict[str, Any], number: int) -> dict[str, Any]:
    """The options for one call of many: a request ID of the whole becomes one of each."""
    key = options["request_id"]
    if key is None:
        return options
    return options | {"request_id": hashlib.sha256(f"{number}\0{key}".encode()).hexdigest()}
