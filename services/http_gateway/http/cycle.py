"""uvicorn's cycle of a request and its response, with less work for responses of a known length.

uvicorn checks and joins the headers of each response one by one, and writes them before the body. Here, they are
checked and joined all at once, and a response leaves in one write.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from .responses import Header

# Headers that uvicorn itself has to understand.
_FRAMING = frozenset({b"transfer-encoding", b"connection"})


class Cycle(RequestResponseCycle):
    # What waits for the first part of the body.
    _head = b""

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or not (self._begin(message) or self._go_on(message)):
            await super().send(message)

    def _begin(self, message: Any) -> bool:
        """Take the beginning of a response with a known length. Return False for anything else."""
        if self.response_started or message["type"] != "http.response.start":
            return False
        headers: list[Header] = message["headers"]
        named = dict(headers)
        length = named.get(b"content-length", b"")
        if self.scope["method"] == "HEAD" or not length.isdigit() or not _FRAMING.isdisjoint(named):
            return False
        closing = b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n"
        self._head = b"".join((STATUS_LINE[message["status"]], _encode([*self.default_headers, *headers]), closing))
        self.response_started, self.waiting_for_100_continue = True, False
        self.chunked_encoding, self.expected_content_length = False, int(length)
        return True

    def _go_on(self, message: Any) -> bool:
        """Write a part of a body whose head waits. Return False for anything else."""
        if not self._head or message["type"] != "http.response.body":
            return False
        head, self._head = self._head, b""
        body: bytes = message.get("body", b"")
        if message.get("more_body") or len(body) != self.expected_content_length:
            self.transport.write(head)
            return False
        self.transport.write(head + body)
        self.response_complete, self.expected_content_length = True, 0
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


def _encode(headers: list[Header]) -> bytes:
    """Return the lines of headers. Raises `RuntimeError` for a line break or a NUL, which would break the response."""
    content = b"".join(chain.from_iterable(headers))
    if b"\n" in content or b"\r" in content or b"\0" in content:
        raise RuntimeError("Invalid HTTP header.")
    return b"\r\n".join(map(b": ".join, headers))
