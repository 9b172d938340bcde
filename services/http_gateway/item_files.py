"""Import and export of items as NDJSON, streamed with bounded memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import COLLECTION_TYPE, CREATABLE, FIND, ITEM_TYPE, BulkResult, check_collection
from aidevos.contracts.errors import Failure

from .forwarder import Forwarder
from .http.request import HttpRequest
from .item_calls import make_items

PAGE = 500
# Bounds of an import: lines and bytes in progress at once, and bytes of one line.
LINES_AT_ONCE = 64
BYTES_AT_ONCE = 4 * 1024 * 1024
LINE_LIMIT = 2 * 1024 * 1024
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


async def export_lines(forwarder: Forwarder, request: HttpRequest, collection: str) -> AsyncGenerator[bytes, None]:
    """Return the lines of all items that the caller may read, sorted by ID.

    A failure before the first page is raised here; a later one cuts the lines short.
    """
    options = forwarder.options(request)
    first = await _read_page(forwarder, collection, None, options)
    return _lines(forwarder, request, collection, first, options)


async def import_lines(
    forwarder: Forwarder, request: HttpRequest, collection: str, limits: ImportLimits
) -> AsyncGenerator[bytes, None]:
    """Create an item from each line and return the lines of the results.

    The body is read only if the caller may create items. The results follow after the whole body was read: a client
    that sends everything before it reads would otherwise wait for the server while the server waits for the client.
    """
    request.check_lines(limits.size)
    await _check_may_create(forwarder, request, collection)
    results: IO[bytes] = tempfile.SpooledTemporaryFile(RESULTS_IN_MEMORY)  # noqa: SIM115
    try:
        await _import_lines(forwarder, request, collection, limits, results)
    except BaseException:
        results.close()
        raise
    return _read_back(request, results)


async def _check_may_create(forwarder: Forwarder, request: HttpRequest, collection: str) -> None:
    check_collection(collection)
    args = msgspec.json.encode({"collection": collection})
    options = forwarder.options(request) | {"request_id": None}
    await forwarder.request_with_body(subjects.query(COLLECTION_TYPE, CREATABLE), args, options)


async def _read_page(forwarder: Forwarder, collection: str, cursor: str | None, options: dict[str, Any]) -> _Page:
    args = msgspec.json.encode({"collection": collection, "limit": PAGE, "cursor": cursor})
    return _page.decode(await forwarder.request_with_body(subjects.query(ITEM_TYPE, FIND), args, options))


async def _lines(
    forwarder: Forwarder, request: HttpRequest, collection: str, page: _Page, options: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    with _watching(request) as is_gone:
        while True:
            yield b"".join(msgspec.json.encode(line) + b"\n" for line in page.items)
            if page.next_cursor is None or is_gone():
                return
            page = await _read_page(forwarder, collection, page.next_cursor, options)


@contextmanager
def _watching(request: HttpRequest) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True once the client has disconnected."""
    gone = asyncio.ensure_future(request.gone())
    try:
        yield gone.done
    finally:
        gone.cancel()


async def _import_lines(
    forwarder: Forwarder, request: HttpRequest, collection: str, limits: ImportLimits, results: IO[bytes]
) -> None:
    batch: list[tuple[int, bytes]] = []
    size = number = 0
    async for line in request.lines(LINE_LIMIT, limits.size):
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
            await _make_batch(forwarder, request, collection, batch, results)
            batch, size = [], 0
    await _make_batch(forwarder, request, collection, batch, results)


async def _make_batch(
    forwarder: Forwarder, request: HttpRequest, collection: str, batch: list[tuple[int, bytes]], results: IO[bytes]
) -> None:
    made = await make_items(forwarder, request, collection, batch)
    for (number, _), result in zip(batch, made, strict=True):
        results.write(_encode(result, number))


def _encode(result: BulkResult, number: int) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(result, line=number)) + b"\n"


async def _read_back(request: HttpRequest, results: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with results, _watching(request) as is_gone:
        results.seek(0)
        while not is_gone() and (chunk := results.read(CHUNK)):
            yield chunk
