"""Requests of this process to its own application, on behalf of the caller of another request.

Each takes the path of a request from outside: admission, rate limits, logs and metrics. The answer is streamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
from starlette.types import ASGIApp, Message, Scope

from .http.connection import CONNECTION
from .http.request import HttpRequest
from .http.responses import Header


class InnerTransport(httpx2.AsyncBaseTransport):
    """A transport to an ASGI application, with the credential, address and connection of the request `outer`."""

    def __init__(self, app: ASGIApp, outer: HttpRequest) -> None:
        self._app = app
        self._outer = outer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _Exchange(self._app, self._scope(request), await request.aread())
        try:
            status, headers = await exchange.begun
        except asyncio.CancelledError:
            await exchange.aclose()
            raise
        return httpx2.Response(status, headers=headers, stream=exchange)

    def _scope(self, request: httpx2.Request) -> Scope:
        outer = self._outer
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        credential = outer.headers.get(b"authorization")
        if credential is not None:
            headers.append((b"authorization", credential))
        return {
            **{name: outer.scope[name] for name in ("type", "asgi", "http_version", "server", "client", "root_path")},
            "scheme": request.url.scheme,
            "method": request.method,
            "path": request.url.path,
            "raw_path": request.url.raw_path.partition(b"?")[0],
            "query_string": request.url.query,
            "headers": headers,
            CONNECTION: outer.connection,
        }


class _Exchange(httpx2.AsyncByteStream):
    """A request to the application, and the body of its response. `begun` is the response's status and headers."""

    def __init__(self, app: ASGIApp, scope: Scope, body: bytes) -> None:
        self._body: bytes | None = body
        # Unbounded: the tools of this process take each part at once.
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.begun: asyncio.Future[tuple[int, list[Header]]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))
        self._task.add_done_callback(self._end)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part
        await self._task

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            # The caller never disconnects: `aclose` cancels the application.
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun.set_result((message["status"], message["headers"]))
        elif message.get("body"):
            self._parts.put_nowait(message["body"])

    def _end(self, task: asyncio.Future[None]) -> None:
        self._parts.put_nowait(None)
        if not self.begun.done():
            self.begun.set_exception(httpx2.ReadError("the application gave no response"))
