"""Items by the file: NDJSON in and out, streamed, with a bound on what is in memory at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import FIND, ITEM_TYPE, BulkResult

from .forwarder import Forwarder
from .http.request import HttpRequest
from .item_calls import make_items

PAGE = 500
# Of an import: what is under way at once, and the longest line, in bytes.
LINES_AT_ONCE = 64
BYTES_AT_ONCE = 4 * 1024 * 1024
LINE_LIMIT = 2 * 1024 * 1024
# Results beyond this size wait in a file.
RESULTS_IN_MEMORY = 1024 * 1024
CHUNK = 64 * 1024


class _Line(msgspec.Struct):
    """A line of an export, and what it takes of an item."""

    id: str
    data: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Line]
    next_cursor: str | None


_page = msgspec.json.Decoder(_Page)


async def export(forwarder: Forwarder, request: HttpRequest, collection: str) -> AsyncGenerator[bytes, None]:
    """Return the lines of all items that the caller may read, by their IDs. A failure before the first page is
    raised here; a later one breaks the lines off."""
    options = forwarder.options(request)
    first = await _read_page(forwarder, collection, None, options)
    return _lines(forwarder, request, collection, first, options)


async def take_in(forwarder: Forwarder, request: HttpRequest, collection: str) -> AsyncGenerator[bytes, None]:
    """Make an item of each line, and return the lines of the results. They follow when the whole body was read: a
    client that sends before it reads would else wait for us, and we for it."""
    results: IO[bytes] = tempfile.SpooledTemporaryFile(RESULTS_IN_MEMORY)  # noqa: SIM115
    try:
        await _take_in(forwarder, request, collection, results)
    except BaseException:
        results.close()
        raise
    return _read_back(results)


async def _read_page(forwarder: Forwarder, collection: str, cursor: str | None, options: dict[str, Any]) -> _Page:
    args = msgspec.json.encode({"collection": collection, "limit": PAGE, "cursor": cursor})
    return _page.decode(await forwarder.arguments(subjects.query(ITEM_TYPE, FIND), args, options))


async def _lines(
    forwarder: Forwarder, request: HttpRequest, collection: str, page: _Page, options: dict[str, Any]
) -> AsyncGenerator[bytes, None]:
    gone = asyncio.ensure_future(request.gone())
    try:
        while True:
            yield b"".join(msgspec.json.encode(line) + b"\n" for line in page.items)
            if page.next_cursor is None or gone.done():
                return
            page = await _read_page(forwarder, collection, page.next_cursor, options)
    finally:
        gone.cancel()


async def _take_in(forwarder: Forwarder, request: HttpRequest, collection: str, results: IO[bytes]) -> None:
    batch: list[tuple[int, bytes]] = []
    size = number = 0
    async for line in request.lines(LINE_LIMIT):
        number += 1
        if not line.strip():
            continue
        batch.append((number, line))
        size += len(line)
        if len(batch) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
            await _make(forwarder, request, collection, batch, results)
            batch, size = [], 0
    await _make(forwarder, request, collection, batch, results)


async def _make(
    forwarder: Forwarder, request: HttpRequest, collection: str, batch: list[tuple[int, bytes]], results: IO[bytes]
) -> None:
    made = await make_items(forwarder, request, collection, batch)
    for (number, _), result in zip(batch, made, strict=True):
        results.write(_encode(result, number))


def _encode(result: BulkResult, number: int) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(result, line=number)) + b"\n"


async def _read_back(results: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with results:
        results.seek(0)
        while chunk := results.read(CHUNK):
            yield chunk
