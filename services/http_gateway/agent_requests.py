"""Messages of agents, answered by the tools of `aidevos.mcp`, which call this gateway as the agent would.

`endpoints/agents.py` imports this module when the first message arrives, because the library is large.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Scope

from aidevos.client.api import HttpApi
from aidevos.mcp.server import serve_request

from .http.request import HttpRequest
from .http.responses import JSON_HEADER, HttpResponse
from .inner_transport import InnerTransport

# A base for the paths of requests that never leave this process.
INNER = "http://gateway"
# Seconds within which a tool's request is answered, repeats included.
DEADLINE = 10.0
# The library wants these; the gateway has checked the body, and answers in JSON whatever a client accepts.
_FIXED = ((b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream"))


async def answer(app: ASGIApp, request: HttpRequest, url: str) -> HttpResponse:
    """Return the answer to the message in a request's body, whose tools use `app`; `url` is the gateway's."""
    exchange = _Exchange(request.content)
    async with HttpApi(INNER, transport=InnerTransport(app, request), deadline=DEADLINE) as api:
        await serve_request(api, url, _scope(request), exchange.receive, exchange.send)
    return HttpResponse(exchange.status, exchange.body, (JSON_HEADER,) if exchange.body else ())


def _scope(request: HttpRequest) -> Scope:
    own = [(name, value) for name, value in request.headers.items() if name.startswith(b"mcp-")]
    return {**request.scope, "headers": [*own, *_FIXED]}


class _Exchange:
    """One request to the library, and its response."""

    def __init__(self, content: bytes) -> None:
        self._content: bytes | None = content
        self.status = 500
        self.body = b""

    async def receive(self) -> Message:
        content, self._content = self._content, None
        if content is None:
            await asyncio.get_running_loop().create_future()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")
