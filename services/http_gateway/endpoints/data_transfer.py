"""Items by the file: NDJSON in and out, streamed, with a bound on what is in memory at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from typing import IO, Any

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.data import FIND, ITEM_TYPE, BulkResult

from ..http import bodies
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from ..item_calls import caller_of, part, try_to_make
from .api_router import APIRouter
from .data import COLLECTION, DataRouter
from .operation import Text, get, post

LINES = Text(bodies.NDJSON)
PAGE = 500
# Of an import: what is under way at once, and the longest line, in bytes.
LINES_AT_ONCE = 64
BYTES_AT_ONCE = 4 * 1024 * 1024
LINE_LIMIT = 2 * 1024 * 1024
# Results beyond this size wait in a file.
RESULTS_IN_MEMORY = 1024 * 1024
CHUNK = 64 * 1024
_NDJSON = ((b"content-type", bodies.NDJSON.encode()),)


class _Line(msgspec.Struct):
    """A line of an export, and what it takes of an item."""

    id: str
    data: msgspec.Raw


class _Page(msgspec.Struct):
    items: list[_Line]
    next_cursor: str | None


_page = msgspec.json.Decoder(_Page)


class DataTransferRouter(APIRouter):
    """`/data/collections/{collection}/export` and `/import`."""

    tag = "data"
    access = DataRouter.access
    needs = DataRouter.needs
    variables = DataRouter.variables

    @get(f"{COLLECTION}/export", "export_items", "Show all items, by their IDs", answer=LINES, returns="An item a line")
    async def export(self, request: HttpRequest) -> HttpResponse:
        """All items that the caller may read, by their IDs. A failure before the first page is an answer
        of its own; a later one breaks the body off."""
        options = self._forwarder.options(request)
        first = await self._read_page(request.path["collection"], None, options)
        return HttpResponse(200, headers=_NDJSON, chunks=self._lines(request, first, options))

    @post(
        f"{COLLECTION}/import",
        "import_items",
        "Make an item of each line",
        None,
        LINES,
        LINES,
        raw=True,
        returns="A result a line",
    )
    async def take_in(self, request: HttpRequest) -> HttpResponse:
        """Make an item of each line. The results follow when the whole body was read: a client that sends
        before it reads would else wait for us, and we for it."""
        results: IO[bytes] = tempfile.SpooledTemporaryFile(RESULTS_IN_MEMORY)  # noqa: SIM115
        try:
            await self._take_in(request, results)
        except BaseException:
            results.close()
            raise
        return HttpResponse(200, headers=_NDJSON, chunks=_read_back(results))

    async def _read_page(self, collection: str, cursor: str | None, options: dict[str, Any]) -> _Page:
        args = msgspec.json.encode({"collection": collection, "limit": PAGE, "cursor": cursor})
        return _page.decode(await self._forwarder.arguments(subjects.query(ITEM_TYPE, FIND), args, options))

    async def _lines(self, request: HttpRequest, page: _Page, options: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        gone = asyncio.ensure_future(request.gone())
        try:
            while True:
                yield b"".join(msgspec.json.encode(line) + b"\n" for line in page.items)
                if page.next_cursor is None or gone.done():
                    return
                page = await self._read_page(request.path["collection"], page.next_cursor, options)
        finally:
            gone.cancel()

    async def _take_in(self, request: HttpRequest, results: IO[bytes]) -> None:
        batch: list[tuple[int, bytes]] = []
        size = number = 0
        async for line in request.lines(LINE_LIMIT):
            number += 1
            if not line.strip():
                continue
            batch.append((number, line))
            size += len(line)
            if len(batch) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
                await self._make(request, batch, results)
                batch, size = [], 0
        await self._make(request, batch, results)

    async def _make(self, request: HttpRequest, batch: list[tuple[int, bytes]], results: IO[bytes]) -> None:
        options, caller = self._forwarder.options(request), caller_of(request)
        collection = request.path["collection"]
        made = await asyncio.gather(
            *(try_to_make(self._forwarder, collection, line, caller, part(options, number)) for number, line in batch)
        )
        for (number, _), result in zip(batch, made, strict=True):
            results.write(_encode(result, number))


def _encode(result: BulkResult, number: int) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(result, line=number)) + b"\n"


async def _read_back(results: IO[bytes]) -> AsyncGenerator[bytes, None]:
    with results:
        results.seek(0)
        while chunk := results.read(CHUNK):
            yield chunk
