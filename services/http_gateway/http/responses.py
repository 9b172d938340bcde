"""What an endpoint answers, and how a failure becomes an answer."""

from __future__ import annotations

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
# Of answers with secrets, which are for nobody else (RFC 6749 §5.1).
SECRET: tuple[Header, ...] = ((b"cache-control", b"no-store"),)
NO_STORE = (JSON_HEADER, *SECRET)
# Where a request's scope keeps what is left of its rate limit.
RATE_LIMIT = "aidevos.rate_limit"
# Of every answer: nothing is guessed about it, framed, or told to other sites.
SECURITY: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
# Of those that say nothing else.
POLICY: Header = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
PRIVATE: Header = (b"cache-control", b"private, no-cache")
_PROBLEM_HEADER: Header = (b"content-type", MEDIA_TYPE.encode())
_CHALLENGE: Header = (b"www-authenticate", b"Bearer")


class Chunks(Protocol):
    """A body in pieces; it is closed at the end, also when the client has gone before."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class HttpResponse(NamedTuple):
    """An HTTP response; its Content-Length follows from the body. With `chunks` the body is what they
    give, and the client learns that it is incomplete if they raise."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = (JSON_HEADER,)
    chunks: Chunks | None = None


class MethodNotAllowed(Failure):
    """405, with the methods that the path takes."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__("method-not-allowed", f"this path takes {allowed}, not {method}")
        self.allowed = allowed


def problem_response(failure: Failure) -> HttpResponse:
    """The problem document of a failure, with the headers that its status asks for."""
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


async def send_response(answer: HttpResponse, send: Send) -> None:
    headers = list(answer.headers)
    if answer.chunks is not None:
        async with aclosing(answer.chunks):
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})
        return
    if answer.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
