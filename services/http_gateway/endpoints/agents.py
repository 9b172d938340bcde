"""`/mcp`: the tools of coding agents, by the Model Context Protocol.

Promise: no page of another origin uses the tools (DNS rebinding), and the library is loaded by the first message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from starlette.types import ASGIApp

from aidevos.contracts.errors import Failure
from aidevos.settings import Settings, cors_origins

from ..declared_routes import not_found
from ..forwarder import Forwarder
from ..http.charges import Charges
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from .api_router import APIRouter
from .operation import post

ABOUT = """\
The streamable HTTP transport without sessions: each message is answered by itself, in JSON; a notification gets 202.
Each tool is a request to this API with the caller's rights. A tool that fails answers 200 with an error in its result.
The library refuses other messages with a JSON-RPC error. Pages of other origins need `AIDEVOS_CORS_ORIGINS`."""
NEEDS = "Each tool needs what the operation needs that it calls."
EXAMPLE = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
Answer = Callable[[ASGIApp, HttpRequest, str], Awaitable[HttpResponse]]


class AgentMessage(msgspec.Struct):
    """A JSON-RPC 2.0 request, or a notification if it has no `id`."""

    jsonrpc: Literal["2.0"]
    method: str
    id: int | str | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class AgentAnswer(msgspec.Struct, kw_only=True):
    """A JSON-RPC 2.0 response: a result or an error."""

    jsonrpc: Literal["2.0"]
    id: int | str | None = None
    result: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class AgentRouter(APIRouter):
    """`/mcp`. Its tools use `app`, the whole application."""

    tag = "agents"
    about = "Tools for coding agents"
    body_limit = 0

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges) -> None:
        super().__init__(forwarder, settings, charges)
        url = urlsplit(settings.public_url)
        self.app: ASGIApp = not_found
        self._url = settings.public_url
        self._origins = {f"{url.scheme}://{url.netloc}", *cors_origins(settings.cors_origins)}
        self._answer: Answer | None = None

    @post(
        "/mcp",
        "mcp",
        "Send a message of the Model Context Protocol",
        None,
        AgentAnswer,
        AgentMessage,
        headers=(),
        others={202: None, 400: AgentAnswer, 404: AgentAnswer},
        about=ABOUT,
        example=EXAMPLE,
        needs=NEEDS,
    )
    async def mcp(self, request: HttpRequest, body: AgentMessage) -> HttpResponse:
        origin = request.header(b"origin")
        if origin is not None and not self._origins & {origin, "*"}:
            raise Failure("forbidden", "pages of this origin may not use the tools", field="Origin")
        if self._answer is None:
            # In a thread, because it takes a second, in which other requests go on.
            self._answer = await asyncio.to_thread(_load)
        return await self._answer(self.app, request, self._url)


def _load() -> Answer:
    from ..agent_requests import answer

    return answer
