"""Calls that make items, for one of them and for many."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import ITEM_TYPE, BulkResult, CreateItemBody, check_collection, item_object
from aidevos.contracts.errors import Failure

from . import bodies
from .calls import Calls
from .new_ids import new_id
from .resource import Incoming

create_body = msgspec.json.Decoder(CreateItemBody)


def caller_of(incoming: Incoming) -> str:
    """Whose idempotency keys these are: of callers who aren't known, those at one address share them."""
    return incoming.principal.subject or f"address {incoming.address}"


async def make_item(calls: Calls, collection: str, id: str, data: msgspec.Raw, options: dict[str, Any]) -> bytes:
    """The new item as its object shows it; raises `Failure`."""
    check_collection(collection)
    if not subjects.is_id(id):
        raise Failure("invalid", f"an item's ID matches {subjects.ID_PATTERN}", field="id")
    payload = msgspec.json.encode({"collection": collection, "id": id, "data": data})
    return await calls.arguments(subjects.call(ITEM_TYPE, item_object(collection, id), "create"), payload, options)


async def try_to_make(calls: Calls, collection: str, body: bytes, caller: str, options: dict[str, Any]) -> BulkResult:
    """What became of one item of many."""
    try:
        wanted = bodies.decode(create_body, body, "data")
        id = wanted.id or new_id(options["request_id"], collection, caller)
        await make_item(calls, collection, id, wanted.data, options)
    except Failure as failure:
        return BulkResult(status=failure.status, problem=msgspec.to_builtins(failure.problem))
    return BulkResult(status=201, id=id)


def part(options: dict[str, Any], number: int) -> dict[str, Any]:
    """The options for one call of many: a request ID of the whole becomes one of each."""
    key = options["request_id"]
    if key is None:
        return options
    return options | {"request_id": hashlib.sha256(f"{number}\0{key}".encode()).hexdigest()}
