"""The requests that a task of a built-in kind sends on behalf of its creator, each with its own delegation.

Promise: the task itself derives the requests from its payload, so a worker can only send them. If a
worker dies, its successor sends exactly the same requests with the same request IDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import FIND, ITEM_TYPE, item_object
from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import DataExport, DataImport, ObjectCall
from aidevos.security.delegations import DelegatedCall

# Items in one page of an export, and requests of an import per batch.
PAGE = 200
STEP = 25


def build_calls(id: str, kind: str, payload: str, sends: int, after: str) -> Sequence[DelegatedCall]:
    """Return a task's next requests after a position; none if the task is done.

    For an import, the position is the number of items that are done; for an export, it is the cursor.
    Raises `invalid` for other kinds.
    """
    prefix = f"task.{id}.{sends}"
    if kind == "object.call":
        call = msgspec.json.decode(payload, type=ObjectCall)
        type, _, object = call.object_id.partition(":")
        return [DelegatedCall(subjects.call(type, object, call.method), _encoded(call.args), prefix)]
    if kind == "data.export":
        wanted = msgspec.json.decode(payload, type=DataExport)
        asked = {"collection": wanted.collection, "limit": PAGE, "cursor": after or None}
        return [DelegatedCall(subjects.query(ITEM_TYPE, FIND), _encoded(asked), "")]
    if kind == "data.import":
        brought = msgspec.json.decode(payload, type=DataImport)
        first = int(after or 0)
        numbers = range(first, min(first + STEP, len(brought.items)))
        return [_creation(id, brought, number, f"{prefix}.{number}") for number in numbers]
    raise Failure("invalid", f"a task of the kind {kind} sends no requests", field="args.run")


def _creation(id: str, brought: DataImport, number: int, request_id: str) -> DelegatedCall:
    item = brought.items[number]
    # A repeat creates the same item.
    name = item.id or subjects.hashed_id(ITEM_TYPE, f"{id}/{number}")
    args = {"collection": brought.collection, "id": name, "data": item.data}
    subject = subjects.call(ITEM_TYPE, item_object(brought.collection, name), "create")
    return DelegatedCall(subject, _encoded(args), request_id)


def _encoded(args: Any) -> bytes:
    return msgspec.json.encode(args)
