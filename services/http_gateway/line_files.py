"""Bodies of NDJSON in both directions, streamed with bounded memory."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.access.limiter import RateLimited

from .http.charges import Charges
from .http.request import HttpRequest

# Bounds of an import: lines and bytes in progress at once.
LINES_AT_ONCE = 64
BYTES_AT_ONCE = 4 * 1024 * 1024
# Seconds that lines wait for their caller's rate limit.
PATIENCE = 10.0
# Larger results wait in a file.
RESULTS_IN_MEMORY = 1024 * 1024
CHUNK = 64 * 1024
# A line and its number.
Line = tuple[int, bytes]


class ImportLimits(NamedTuple):
    """The bounds of an import: its lines, including empty ones, its bytes, and those of one line."""

    lines: int
    size: int
    line: int


class Import(NamedTuple):
    """An import: `load` returns the results of lines in order, and `refuse` the result of a line that must wait.

    Results are structs with a field `line`.
    """

    request: HttpRequest
    charges: Charges
    limits: ImportLimits
    load: Callable[[Sequence[Line]], Awaitable[Sequence[Any]]]
    refuse: Callable[[Failure], Any]


async def import_lines(wanted: Import) -> AsyncGenerator[bytes, None]:
    """Load each line and return the lines of the results.

    The body is read as fast as the caller's rate limit allows. Lines that would have to wait for more than `PATIENCE`
    seconds are refused. The results follow after the whole body was read: a client that sends everything before it
    reads would otherwise wait for the server while the server waits for the client.
    """
    results: IO[bytes] = tempfile.SpooledTemporaryFile(RESULTS_IN_MEMORY)  # noqa: SIM115
    try:
        await load_lines(wanted, results)
    except BaseException:
        results.close()
        raise
    return read_back(wanted.request, results)


async def load_lines(wanted: Import, results: IO[bytes]) -> None:
    """Load each line of the body, and write the results."""
    batch: list[Line] = []
    size = number = 0
    limits = wanted.limits
    async for line in wanted.request.lines(limits.line, limits.size):
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
            await _load_batch(wanted, batch, results)
            batch, size = [], 0
    await _load_batch(wanted, batch, results)


async def _load_batch(wanted: Import, batch: list[Line], results: IO[bytes]) -> None:
    try:
        await wanted.charges.pace_items(wanted.request, len(batch), PATIENCE)
    except RateLimited as refused:
        made: Sequence[Any] = [wanted.refuse(refused)] * len(batch)
    else:
        made = await wanted.load(batch)
    for (number, _), result in zip(batch, made, strict=True):
        results.write(msgspec.json.encode(msgspec.structs.replace(result, line=number)) + b"\n")


async def read_back(request: HttpRequest, results: IO[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the results while the client is there."""
    with results, watching(request) as gone:
        results.seek(0)
        while not gone.done() and (chunk := results.read(CHUNK)):
            yield chunk


@contextmanager
def watching(request: HttpRequest) -> Iterator[asyncio.Future[None]]:
    """Yield a future that is done once the client has disconnected."""
    gone = asyncio.ensure_future(request.gone())
    try:
        yield gone
    finally:
        gone.cancel()
