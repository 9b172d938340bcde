"""uvicorn's HTTP protocol, with a problem document for what is no HTTP request at all."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aidevos.contracts.errors import MEDIA_TYPE, Failure
from aidevos.observability import metrics, request_ids


class JoinedWrites:
    """A transport that sends at once what is written within one round of the event loop: uvicorn
    writes the head of a response and its body apart, and uvloop would make a system call of each."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written:
            self._transport.write(b"".join(written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ProblemProtocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport)))

    def send_400_response(self, msg: str) -> None:
        metrics.FAILURES.labels("http", "bad-request").inc()
        document = Failure("bad-request", "this is no valid HTTP/1.1 request").encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\n"
            f"content-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(document)}\r\n"
            f"x-request-id: {request_ids.choose(None)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + document)
        self.transport.close()
