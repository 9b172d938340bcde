"""Responses of endpoints, and the responses for failures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import NamedTuple, Protocol

from starlette.types import Send

from aidevos.contracts import envelope
from aidevos.contracts.errors import MEDIA_TYPE, Failure

from .bodies import UnsupportedPatch

Header = tuple[bytes, bytes]
JSON_HEADER: Header = (b"content-type", envelope.JSON.encode())
# For responses with secrets, which no cache may store (RFC 6749 §5.1).
SECRET: tuple[Header, ...] = ((b"cache-control", b"no-store"),)
NO_STORE = (JSON_HEADER, *SECRET)
# The key of the rate limit's state in a request's scope.
RATE_LIMIT = "aidevos.rate_limit"
# Larger bodies are written in parts, each when the client has taken most of the previous one.
PART = 64 * 1024
# For every response: browsers don't guess its type and send no Referer from it.
SECURITY: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# Defaults for responses that don't set these headers.
POLICY: Header = (b"content-security-policy", b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
# For pages that load files of their own origin and call it. `style-src` has no 'unsafe-inline': libraries set styles by
# the CSSOM. Their style sheets have images in data URLs.
PAGE_POLICY: Header = (
    b"content-security-policy",
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
PRIVATE: Header = (b"cache-control", b"private, no-cache")
_PROBLEM_HEADER: Header = (b"content-type", MEDIA_TYPE.encode())
_CHALLENGE: Header = (b"www-authenticate", b"Bearer")


class Chunks(Protocol):
    """A body in pieces; it is always closed, even if the client disconnects early."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class HttpResponse(NamedTuple):
    """An HTTP response; its Content-Length follows from the body.

    `chunks` replaces the body if it is set. If it raises, the client learns that the body is
    incomplete.
    """

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = (JSON_HEADER,)
    chunks: Chunks | None = None


class MethodNotAllowed(Failure):
    """Raised for a method that the path doesn't have (405); `allowed` lists those that it has."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__("method-not-allowed", f"this path allows {allowed}, not {method}")
        self.allowed = allowed


def problem_response(failure: Failure) -> HttpResponse:
    """Return the problem document of a failure with the headers that its status requires."""
    headers = [_PROBLEM_HEADER]
    if failure.status == 401:
        headers.append(_CHALLENGE)
    if failure.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(failure.retry_after))))
    if isinstance(failure, UnsupportedPatch):
        headers.append((b"accept-patch", failure.accepted.encode()))
    if isinstance(failure, MethodNotAllowed):
        headers.append((b"allow", failure.allowed.encode()))
    return HttpResponse(failure.status, failure.encode(), tuple(headers))


async def send_response(response: HttpResponse, send: Send) -> None:
    headers = list(response.headers)
    if response.chunks is not None:
        async with aclosing(response.chunks):
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for chunk in response.chunks:
                await _send_part(chunk, send)
        await send({"type": "http.response.body"})
        return
    if response.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(response.body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    sent = 0
    while len(response.body) - sent > PART:
        await _send_part(response.body[sent : sent + PART], send)
        sent += PART
    await send({"type": "http.response.body", "body": response.body[sent:]})


async def _send_part(part: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
    # The transport says only now whether the client is behind.
    await asyncio.sleep(0)
