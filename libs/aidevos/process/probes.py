"""Probes over HTTP, which tell a supervisor such as Kubernetes how this very process is.

Promise: `GET /health/live` is answered with 200 while the event loop turns. `GET /health/ready` is answered with 200 if
this process can do its work, and otherwise with 503 and the reason. `GET /metrics` shows its metrics. Nothing else is
answered, and a client that sends slowly is cut off. No credential is needed, so only the supervisor may reach the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from aidevos.observability import metrics
from aidevos.settings import Settings, SettingsError

LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
HEAD_WITHIN = 5.0
MAX_HEAD = 8 * 1024
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@asynccontextmanager
async def answering_probes(settings: Settings, find_problem: Callable[[], str]) -> AsyncIterator[None]:
    """Answer at `AIDEVOS_PROBE_PORT` while the block runs, if it is set. Raises `SettingsError`.

    `find_problem` returns the reason why this process isn't ready, or an empty string.
    """
    async with AsyncExitStack() as stack:
        if settings.probe_port:
            await stack.enter_async_context(await _listen(settings, find_problem))
        yield


async def _listen(settings: Settings, find_problem: Callable[[], str]) -> asyncio.Server:
    try:
        return await asyncio.start_server(
            partial(_answer, find_problem), settings.host, settings.probe_port, limit=MAX_HEAD, reuse_port=True
        )
    except OSError as error:
        place = f"AIDEVOS_HOST={settings.host}, AIDEVOS_PROBE_PORT={settings.probe_port}"
        raise SettingsError(f"can't listen on {place}: {error.strerror}") from None


async def _answer(find_problem: Callable[[], str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(HEAD_WITHIN):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head.split(b"\r\n", 1)[0].decode("latin-1"), find_problem))
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


def _response(request_line: str, find_problem: Callable[[], str]) -> bytes:
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method == "GET" and path == METRICS:
        return _encode(200, metrics.exposition(), metrics.CONTENT_TYPE)
    if method != "GET" or path not in (LIVE, READY):
        return _encode(404, b"not found\n")
    problem = find_problem() if path == READY else ""
    return _encode(503, f"{problem}\n".encode()) if problem else _encode(200, b"ok\n")


def _encode(status: int, body: bytes, content_type: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
