"""Ports that tell a supervisor such as Kubernetes how this very process is, and Prometheus what it measures.

Promise: `GET /health/live` is answered with 200 while the event loop turns. `GET /health/ready` is answered with 200 if
this process can do its work, and otherwise with 503. Both say what is wrong with which part, and since when
(`contracts.health.ProcessHealth`). `GET /metrics` shows its metrics, as OpenMetrics with exemplars if the client
accepts that. Nothing else is answered, and a client that sends slowly is cut off. No credential is needed, so only the
supervisor and Prometheus may reach the ports.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from aidevos.observability.exposition import content_type, exposition, wants_openmetrics
from aidevos.observability.health import Health
from aidevos.settings import Settings, SettingsError

LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
HEAD_WITHIN = 5.0
MAX_HEAD = 8 * 1024
JSON = "application/json"
# Ports that are tried for metrics.
PORTS = 1000
_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


@asynccontextmanager
async def answering_probes(settings: Settings, health: Health) -> AsyncIterator[None]:
    """Answer at `AIDEVOS_PROBE_PORT` while the block runs, if it is set. Raises `SettingsError`."""
    async with AsyncExitStack() as stack:
        if settings.probe_port:
            await stack.enter_async_context(await _listen(settings, health))
        yield


async def open_metrics_port(settings: Settings, health: Health) -> asyncio.Server:
    """Return a server at the first free port from `AIDEVOS_METRICS_PORT` on. Raises `SettingsError`."""
    host, first = settings.metrics_host, settings.metrics_port
    for port in range(first, min(first + PORTS, 65536)):
        try:
            server = await asyncio.start_server(partial(_answer, health), host, port, limit=MAX_HEAD)
            # Of several processes that find the port free at once, only one can listen. uvloop doesn't say so.
            if all(server.sockets):
                return server
            server.close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                place = f"AIDEVOS_METRICS_HOST={host}, port {port} (AIDEVOS_METRICS_PORT={first})"
                raise SettingsError(f"can't listen on {place}: {error.strerror or error}") from None
    raise SettingsError(f"AIDEVOS_METRICS_PORT={first}: no port from there on is free on {host}")


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
            writer.write(_response(head.decode("latin-1"), health))
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


def _response(head: str, health: Health) -> bytes:
    request_line, _, headers = head.partition("\r\n")
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if method == "GET" and path == METRICS:
        with_exemplars = wants_openmetrics(headers)
        return _encode(200, exposition(with_exemplars=with_exemplars), content_type(with_exemplars=with_exemplars))
    if method != "GET" or path not in (LIVE, READY):
        return _encode(404, b"not found\n")
    found = health.describe()
    return _encode(200 if found.ok or path == LIVE else 503, msgspec.json.encode(found), JSON)


def _encode(status: int, body: bytes, content_type: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {content_type}\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
