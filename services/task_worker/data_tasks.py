"""Tasks of the kinds `data.export` and `data.import`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos.contracts.data import BulkResult
from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import RESULT_LIMIT, DataExport, DataImport, Order
from aidevos.work.handlers import TaskContext, task

from .acting import fetch_orders, send

# Bytes of a result that are reserved for everything but the lines.
OVERHEAD = 1024
# The largest number of problems that the result of an import contains.
MAX_PROBLEMS = 50


class _Line(msgspec.Struct):
    id: str
    data: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Line]
    next_cursor: str | None


class _Created(msgspec.Struct):
    id: str


_page = msgspec.json.Decoder(_Page)
_created = msgspec.json.Decoder(_Created)


@task("data.export")
async def export_items(context: TaskContext, payload: DataExport) -> dict[str, Any]:
    """Export all items that the task's creator may read, ordered by ID, as NDJSON."""
    lines: list[str] = []
    size, cursor = OVERHEAD, ""
    while True:
        (order,) = await fetch_orders(context, cursor)
        page = _page.decode(await send(context, order))
        for item in page.items:
            line = msgspec.json.encode(item).decode()
            lines.append(line + "\n")
            # The line is longer as a JSON string.
            size += len(msgspec.json.encode(lines[-1]))
        if size > RESULT_LIMIT:
            raise Failure(
                "too-large",
                f"the items exceed the {RESULT_LIMIT} bytes of a result: "
                f"GET /data/collections/{payload.collection}/export streams them",
            )
        if page.next_cursor is None:
            return {"count": len(lines), "ndjson": "".join(lines)}
        cursor = page.next_cursor


@task("data.import")
async def import_items(context: TaskContext, payload: DataImport) -> dict[str, Any]:
    """Create the items with the rights of the task's creator, and return the results in the items' order."""
    results: list[BulkResult] = []
    while len(results) < len(payload.items):
        orders = await fetch_orders(context, str(len(results)))
        results += await asyncio.gather(*(_create(context, order) for order in orders))
        await context.progress(len(results) / len(payload.items))
    refused = [result for result in results if result.problem is not None]
    for result in refused[MAX_PROBLEMS:]:
        result.problem = None
    return {"created": len(results) - len(refused), "refused": len(refused), "results": results}


async def _create(context: TaskContext, order: Order) -> BulkResult:
    try:
        return BulkResult(status=201, id=_created.decode(await send(context, order)).id)
    except Failure as failure:
        if failure.is_transient:
            raise
        return BulkResult(status=failure.status, problem=msgspec.to_builtins(failure.problem))
