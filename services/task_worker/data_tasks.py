"""Tasks of the kinds `data.export` and `data.import`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos.contracts.data import BulkResult
from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import RESULT_LIMIT, DataExport, DataImport, Order
from aidevos.work.handlers import TaskContext, task

from .acting import orders, send

# Of a result, for all but the lines.
ROOM = 1024
# Items of an import whose problems are told in full.
PROBLEMS = 50


class _Line(msgspec.Struct):
    id: str
    data: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Line]
    next_cursor: str | None


class _Made(msgspec.Struct):
    id: str


_page = msgspec.json.Decoder(_Page)
_made = msgspec.json.Decoder(_Made)


@task("data.export")
async def export(context: TaskContext, payload: DataExport) -> dict[str, Any]:
    """All items that the maker may read, by their IDs, one on a line."""
    lines: list[str] = []
    size, cursor = ROOM, ""
    while True:
        (order,) = await orders(context, cursor)
        page = _page.decode(await send(context, order))
        for item in page.items:
            line = msgspec.json.encode(item).decode()
            lines.append(line + "\n")
            # As a text in JSON the line is longer.
            size += len(msgspec.json.encode(lines[-1]))
        if size > RESULT_LIMIT:
            raise Failure(
                "too-large",
                f"the items have more than {RESULT_LIMIT} bytes, which a result has no room for: "
                f"GET /data/collections/{payload.collection}/export gives them as a stream",
            )
        if page.next_cursor is None:
            return {"count": len(lines), "ndjson": "".join(lines)}
        cursor = page.next_cursor


@task("data.import")
async def take_in(context: TaskContext, payload: DataImport) -> dict[str, Any]:
    """Make the items, each with the maker's rights; the results are in their order."""
    results: list[BulkResult] = []
    while len(results) < len(payload.items):
        given = await orders(context, str(len(results)))
        results += await asyncio.gather(*(_make(context, order) for order in given))
        await context.progress(len(results) / len(payload.items))
    refused = [result for result in results if result.problem is not None]
    for result in refused[PROBLEMS:]:
        result.problem = None
    return {"created": len(results) - len(refused), "refused": len(refused), "results": results}


async def _make(context: TaskContext, order: Order) -> BulkResult:
    try:
        return BulkResult(status=201, id=_made.decode(await send(context, order)).id)
    except Failure as failure:
        if failure.is_transient:
            raise
        return BulkResult(status=failure.status, problem=msgspec.to_builtins(failure.problem))
