"""The replies to a request, as they arrive at the client's inbox."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Self

from nats.aio.msg import Msg

from aidevos.contracts import envelope
from aidevos.contracts.errors import Failure
from aidevos.durable.base.shared_timers import SharedTimers

# How the headers of the server's own reply begin, and what is in those of a failure.
_UNTAKEN, _FAILED = b"NATS/1.0 503", b"\r\n%s:" % envelope.ERROR_CODE.encode()


class Reply(NamedTuple):
    """A reply as it arrives."""

    payload: bytes
    headers: bytes

    @classmethod
    def of(cls, message: Msg) -> Self:
        """Return a reply that nats-py has parsed."""
        return cls(message.data, _encode_headers(message.headers or {}))

    @property
    def is_untaken(self) -> bool:
        """True if the reply comes from the server, because nobody subscribes to the request's subject."""
        return self.headers.startswith(_UNTAKEN) and not self.payload

    @property
    def failure(self) -> Failure | None:
        """The failure that the headers report, or None if the reply is a result."""
        if not self.headers:
            return None
        if self.is_untaken:
            return Failure("unavailable", "no process serves this object at the moment")
        return Failure.decode(self.payload) if _FAILED in self.headers else None


class Replies:
    """The replies to one request, in the order of their arrival."""

    __slots__ = ("_arrived", "_loop", "_timers", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, timers: SharedTimers) -> None:
        self._loop = loop
        self._timers = timers
        self._arrived: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, reply: Reply) -> None:
        self._arrived.append(reply)
        self.wake()

    async def next(self, seconds: float) -> Reply | None:
        """Return the next reply, or None if none arrives within these seconds."""
        if not self._arrived:
            self._waiter = self._loop.create_future()
            cancel = self._timers.start(self, seconds)
            try:
                await self._waiter
            finally:
                cancel()
                self._waiter = None
        return self._arrived.popleft() if self._arrived else None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _encode_headers(headers: Mapping[str, str]) -> bytes:
    """Return headers as they arrive, with the status that nats-py has found in their first line."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"NATS/1.0 {headers.get('Status', '')}", *lines, "\r\n"]).encode() if headers else b""
