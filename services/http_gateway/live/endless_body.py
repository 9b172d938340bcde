"""The body of an endless response of server-sent events.

Promise: it ends when its reader leaves, the server drains, or the reader has taken nothing for `WRITE_WITHIN` seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from typing import ClassVar

from ..http.connection import Connection
from ..http.responses import Header
from . import events
from .subscriber import Subscriber

EVENT_STREAM = "text/event-stream"
STREAM_HEADERS: tuple[Header, ...] = (
    (b"content-type", EVENT_STREAM.encode()),
    (b"cache-control", b"no-store"),
    # Proxies that honour nginx's header forward each event at once.
    (b"x-accel-buffering", b"no"),
)
# Seconds between heartbeats, and until a reader must take a chunk.
HEARTBEAT = 15.0
WRITE_WITHIN = 30.0
COMMENT = b": \n"
# Range of milliseconds after which browsers reconnect, so that they don't all return at once.
RETRY = (500, 1500)
ENDS = {
    "draining": "the gateway is restarting",
    "slow": "the reader was too slow for the events",
    "unauthenticated": "the credential is no longer valid",
    "forbidden": "the caller no longer has the permission that the stream needs",
    "unavailable": "the reader's access can't be checked at the moment",
    "restarted": "the event stream was recreated",
}


class EndlessBody(ABC):
    """A body in chunks for a reader, who needs the `permission`."""

    permission: ClassVar[str]

    def __init__(self, reader: Subscriber, connection: Connection) -> None:
        self.reader = reader
        self._connection = connection
        self._ended = ""
        # The time when the last chunk was handed out for sending; None while the next one is being made.
        self._handed_at: float | None = None
        self._wake = asyncio.Event()
        self._chunks = self._run()
        connection.watch(self.end)

    @abstractmethod
    def _run(self) -> AsyncGenerator[bytes, None]:
        """Yield chunks until `_ended` is set, which also sets `_wake`."""

    @abstractmethod
    def _leave(self) -> None:
        """Do what is due when nobody reads any more. It may be called several times."""

    def end(self, reason: str) -> None:
        """End the stream. The reader is told the reason if it is in `ENDS` and the reader still listens."""
        if not self._ended:
            self._ended = reason
            self._wake.set()

    def check_progress(self, now: float) -> None:
        """Disconnect the reader if it has taken nothing for too long."""
        if self._handed_at is not None and now - self._handed_at > WRITE_WITHIN:
            self.end("slow")
            self._connection.cut()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._handed_at = None
        chunk = await anext(self._chunks)
        self._handed_at = time.monotonic()
        return chunk

    async def aclose(self) -> None:
        self._connection.watch(None)
        self._leave()
        await self._chunks.aclose()


def retry_line() -> bytes:
    """Return the line that tells browsers after which time to reconnect."""
    return b"retry: %d\n" % random.randint(*RETRY)  # noqa: S311


def end_frames(reason: str) -> list[bytes]:
    """Return the frame that tells the reader why the stream ends, if it may know."""
    return [events.notice_frame("end", reason, ENDS[reason])] if reason in ENDS else []
