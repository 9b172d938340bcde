"""uvicorn's HTTP protocol with bounds on a request's head, and problem documents for malformed requests.

Promise: the head of a request has at most `HEAD_LIMIT` bytes and arrives within `HEAD_WITHIN` seconds.
A client that sends more, or sends too slowly, gets an error and is cut off before it costs memory or
time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aidevos.contracts.errors import MEDIA_TYPE, Failure
from aidevos.observability import metrics, request_ids

from .connection import CONNECTION, End
from .joined_writes import JoinedWrites
from .responses import POLICY, PRIVATE, SECURITY

HEAD_LIMIT = 64 * 1024
HEAD_WITHIN = 20.0
_SECURITY = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in (*SECURITY, POLICY, PRIVATE))


class ProblemProtocol(HttpToolsProtocol):
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _ended: Callable[[End], None] | None = None
    _draining = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, JoinedWrites(transport)))

    def watch(self, ended: Callable[[End], None] | None) -> None:
        self._ended = ended
        if self._draining or self.transport.is_closing():
            self._tell_end("draining" if self._draining else "gone")

    def cut(self) -> None:
        self.transport.abort()

    def shutdown(self) -> None:
        self._draining = True
        super().shutdown()
        self._tell_end("draining")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, object], self.scope)[CONNECTION] = self

    def data_received(self, data: bytes) -> None:
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(
                    HEAD_WITHIN, self._refuse, 408, "the request's head took too long to arrive"
                )
        super().data_received(data)
        if self._head_bytes > HEAD_LIMIT:
            self._refuse(431, f"the head of a request can have at most {HEAD_LIMIT} bytes")

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)
        self._tell_end("gone")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this isn't a valid HTTP/1.1 request")

    def _tell_end(self, end: End) -> None:
        if self._ended is not None:
            self._ended(end)

    def _end_head(self) -> None:
        self._head_bytes = -1
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, detail: str) -> None:
        self._end_head()
        if self.transport.is_closing():
            return
        metrics.FAILURES.labels("http", "bad-request").inc()
        document = Failure("bad-request", detail, status=status).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(document)}\r\n"
            f"{_SECURITY}"
            f"x-request-id: {request_ids.choose(None)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + document)
        self.transport.close()
