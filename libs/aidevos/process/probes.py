"""Probes over HTTP, which tell a supervisor such as Kubernetes how this very process is.

Promise: `GET /health/live` is answered with 200 while the event loop turns. `GET /health/ready` is answered with 200 if
this process can do its work, and otherwise with 503. Both say what is wrong with which part, and since when
(`contracts.health.ProcessHealth`). `GET /metrics` shows its metrics. Nothing else is
answered, and a client that sends slowly is cut off. No credential is needed, so only the supervisor may reach the port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from aidevos.observability import metrics
from aidevos.observability.health import Health
from aidevos.settings import Settings, SettingsError

LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
HEAD_WITHIN = 5.0
MAX_HEAD = 8 * 1024
JSON = "application/json"
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@asynccontextmanager
async def answering_probes(settings: Settings, health: Health) -> AsyncIterator[None]:
    """Answer at `AIDEVOS_PROBE_PORT` while the block runs, if it is set. Raises `SettingsError`."""
    async with AsyncExitStack() as stack:
        if settings.probe_port:
            await stack.enter_async_context(await _listen(settings, health))
        yield


async def _listen(settings: Settings, health: Health) -> asyncio.Server:
    try:
        return await asyncio.start_server(
            partial(_answer, health), settings.host, settings.probe_port, limit=MAX_HEAD, reuse_port=True
        )
    except OSError as error:
        place = f"AIDEVOS_HOST={settings.host}, AIDEVOS_PROBE_PORT={settings.probe_port}"
        raise SettingsError(f"can't listen on {place}: {error.strerror}") from None


async def _answer(health: Health, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(HEAD_WITHIN):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head.split(b"\r\n", 1)[0].decode("latin-1"), health))
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


def _response(request_line: str, health: Health) -> bytes:
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method == "GET" and path == METRICS:
        return _encode(200, metrics.exposition(), metrics.CONTENT_TYPE)
    if method != "GET" or path not in (LIVE, READY):
        return _encode(404, b"not found\n")
    found = health.describe()
    return _encode(200 if found.ok or path == LIVE else 503, msgspec.json.encode(found), JSON)


def _encode(status: int, body: bytes, content_type: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
