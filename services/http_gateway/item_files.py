"""Import and export of items as NDJSON, streamed with bounded memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import COLLECTION_TYPE, CREATABLE, FIND, ITEM_TYPE, BulkResult, check_collection
from aidevos.contracts.errors import Failure
from aidevos.durable.access.limiter import RateLimited

from .forwarder import Forwarder
from .http.charges import Charges
from .http.request import HttpRequest
from .item_calls import make_items

PAGE = 500
# Bounds of an import: lines and bytes in progress at once, and bytes of one line.
LINES_AT_ONCE = 64
BYTES_AT_ONCE = 4 * 1024 * 1024
LINE_LIMIT = 2 * 1024 * 1024
# Seconds that lines wait for their caller's rate limit.
PATIENCE = 10.0
# Larger results wait in a file.
RESULTS_IN_MEMORY = 1024 * 1024
CHUNK = 64 * 1024


class _Line(msgspec.Struct):
    """A line of an export, which holds these fields of an item."""

    id: str
    data: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Line]
    next_cursor: str | None


_page = msgspec.json.Decoder(_Page)


class ImportLimits(NamedTuple):
    """The bounds of an import: its lines, including empty ones, and its bytes."""

    lines: int
    size: int


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

    The body is read only if the caller may create items, and as fast as its rate limit allows. Lines that would have
    to wait for more than `PATIENCE` seconds are refused. The results follow after the whole body was read: a client
    that sends everything before it reads would otherwise wait for the server while the server waits for the client.
    """
    wanted.request.check_lines(limits.size)
    await _check_may_create(wanted)
    results: IO[bytes] = tempfile.SpooledTemporaryFile(RESULTS_IN_MEMORY)  # noqa: SIM115
    try:
        await _import_lines(wanted, limits, results)
    except BaseException:
        results.close()
        raise
    return _read_back(wanted.request, results)


async def _check_may_create(wanted: ItemsRequest) -> None:
    check_collection(wanted.collection)
    args = msgspec.json.encode({"collection": wanted.collection})
    options = wanted.forwarder.options(wanted.request) | {"request_id": None}
    await wanted.forwarder.request_with_body(subjects.query(COLLECTION_TYPE, CREATABLE), args, options)


async def _read_page(export: ItemsRequest, cursor: str | None, options: dict[str, Any]) -> _Page:
    args = msgspec.json.encode({"collection": export.collection, "limit": PAGE, "cursor": cursor})
    return _page.decode(await export.forwarder.request_with_body(subjects.query(ITEM_TYPE, FIND), args, options))


async def _lines(export: ItemsRequest, page: _Page, options: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    with _watching(export.request) as gone:
        while True:
            yield b"".join(msgspec.json.encode(line) + b"\n" for line in page.items)
            if page.next_cursor is None or gone.done():
                return
            page = await _read_page(export, page.next_cursor, options)
            await export.charges.pace_page(export.request, len(page.items), gone)


@contextmanager
def _watching(request: HttpRequest) -> Iterator[asyncio.Future[None]]:
    """Yield a future that is done once the client has disconnected."""
    gone = asyncio.ensure_future(request.gone())
    try:
        yield gone
    finally:
        gone.cancel()


async def _import_lines(wanted: ItemsRequest, limits: ImportLimits, results: IO[bytes]) -> None:
    batch: list[tuple[int, bytes]] = []
    size = number = 0
    async for line in wanted.request.lines(LINE_LIMIT, limits.size):
        number += 1
        if number > limits.lines:
            raise Failure("too-large", f"an import can have at most {limits.lines} lines", field="body")
        if number % LINES_AT_ONCE == 0:
            # Nothing else waits for the event loop here as long as there are lines.
            await asyncio.sleep(0)
        if not line.strip():
            continue
        batch.append((number, line))
        size += len(line)
        if len(batch) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
            await _make_batch(wanted, batch, results)
            batch, size = [], 0
    await _make_batch(wanted, batch, results)


async def _make_batch(wanted: ItemsRequest, batch: list[tuple[int, bytes]], results: IO[bytes]) -> None:
    try:
        await wanted.charges.pace_items(wanted.request, len(batch), PATIENCE)
    except RateLimited as refused:
        made = [BulkResult(status=refused.status, problem=msgspec.to_builtins(refused.problem))] * len(batch)
    else:
        made = await make_items(wanted.forwarder, wanted.request, wanted.collection, batch)
    for (number, _), result in zip(batch, made, strict=True):
        results.write(_encode(result, number))


def _encode(result: BulkResult, number: int) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(result, line=number)) + b"\n"


async def _read_back(request: HttpRequest, results: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with results, _watching(request) as gone:
        results.seek(0)
        while not gone.done() and (chunk := results.read(CHUNK)):
            yield chunk
