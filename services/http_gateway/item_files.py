"""Import and export of items as NDJSON, streamed with bounded memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import COLLECTION_TYPE, CREATABLE, FIND, ITEM_TYPE, BulkResult, check_collection
from aidevos.contracts.errors import Failure

from . import line_files
from .forwarder import Forwarder
from .http.charges import Charges
from .http.request import HttpRequest
from .item_calls import make_items
from .line_files import Import, ImportLimits, Line, watching

PAGE = 500
# Bytes of one line of an import.
LINE_LIMIT = 2 * 1024 * 1024


class _Line(msgspec.Struct):
    """A line of an export, which holds these fields of an item."""

    id: str
    data: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Line]
    next_cursor: str | None


_page = msgspec.json.Decoder(_Page)


class ItemsRequest(NamedTuple):
    """A request that reads or creates many items of a collection, and the parts of the gateway that serve it."""

    forwarder: Forwarder
    charges: Charges
    request: HttpRequest
    collection: str


async def export_lines(export: ItemsRequest) -> AsyncGenerator[bytes, None]:
    """Return the lines of all items that the caller may read, sorted by ID, as fast as its rate limit allows.

    A failure before the first page is raised here; a later one cuts the lines short.
    """
    options = export.forwarder.options(export.request)
    first = await _read_page(export, None, options)
    await export.charges.add_page(export.request, len(first.items))
    return _lines(export, first, options)


async def import_lines(wanted: ItemsRequest, limits: ImportLimits) -> AsyncGenerator[bytes, None]:
    """Create an item from each line and return the lines of the results.

    The body is read only if the caller may create items.
    """
    wanted.request.check_lines(limits.size)
    await _check_may_create(wanted)
    return await line_files.import_lines(import_of(wanted, limits))


def import_of(wanted: ItemsRequest, limits: ImportLimits) -> Import:
    async def load(batch: Sequence[Line]) -> Sequence[BulkResult]:
        return await make_items(wanted.forwarder, wanted.request, wanted.collection, batch)

    return Import(wanted.request, wanted.charges, limits, load, _refuse)


def _refuse(failure: Failure) -> BulkResult:
    return BulkResult(status=failure.status, problem=msgspec.to_builtins(failure.problem))


async def _check_may_create(wanted: ItemsRequest) -> None:
    check_collection(wanted.collection)
    args = msgspec.json.encode({"collection": wanted.collection})
    options = wanted.forwarder.options(wanted.request) | {"request_id": None}
    await wanted.forwarder.request_with_body(subjects.query(COLLECTION_TYPE, CREATABLE), args, options)


async def _read_page(export: ItemsRequest, cursor: str | None, options: dict[str, Any]) -> _Page:
    args = msgspec.json.encode({"collection": export.collection, "limit": PAGE, "cursor": cursor})
    return _page.decode(await export.forwarder.request_with_body(subjects.query(ITEM_TYPE, FIND), args, options))


async def _lines(export: ItemsRequest, page: _Page, options: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    with watching(export.request) as gone:
        while True:
            yield b"".join(msgspec.json.encode(line) + b"\n" for line in page.items)
            if page.next_cursor is None or gone.done():
                return
            page = await _read_page(export, page.next_cursor, options)
            await export.charges.pace_page(export.request, len(page.items), gone)
