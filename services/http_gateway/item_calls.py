"""Calls that create items, one at a time or many at once."""

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
    """Return the scope of the caller's idempotency keys; unknown callers at one address share one."""
    return request.principal.subject or f"address {request.address}"


async def make_item(
    forwarder: Forwarder, collection: str, id: str, data: msgspec.Raw, options: dict[str, Any]
) -> bytes:
    """Create an item and return its representation. Raises `Failure`."""
    check_collection(collection)
    if not subjects.is_id(id):
        raise Failure("invalid", f"an item's ID must match {subjects.ID_PATTERN}", field="id")
    payload = msgspec.json.encode({"collection": collection, "id": id, "data": data})
    return await forwarder.request_with_body(
        subjects.call(ITEM_TYPE, item_object(collection, id), "create"), payload, options
    )


async def try_make_item(
    forwarder: Forwarder, collection: str, body: bytes, caller: str, options: dict[str, Any]
) -> BulkResult:
    """Create one item of many and return its result, which may be a problem."""
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
    """Create an item from each body and return the results in order.

    At most `ITEMS_AT_ONCE` are in progress. Each item's key derives from the request's idempotency key
    and the body's number.
    """
    options, caller = forwarder.options(request), caller_of(request)
    free = asyncio.Semaphore(ITEMS_AT_ONCE)

    async def make(number: int, body: bytes) -> BulkResult:
        async with free:
            return await try_make_item(forwarder, collection, body, caller, derive_options(options, number))

    return await asyncio.gather(*(make(number, body) for number, body in numbered))


def derive_options(options: dict[str, Any], number: int) -> dict[str, Any]:
    """Return the options for one call of many: the request ID of the whole gives each call its own."""
    key = options["request_id"]
    if key is None:
        return options
    return options | {"request_id": hashlib.sha256(f"{number}\0{key}".encode()).hexdigest()}
