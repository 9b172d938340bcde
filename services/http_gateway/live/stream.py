"""One reader's stream of events, from its beginning to its end.

Promises: what the reader gets is in the stream's order, each event once, behind the position from which it
resumes, and nothing that is for it is left out before the stream ends. What waits for a reader is bounded; one
that doesn't keep up is told so and let go, and misses nothing when it resumes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Protocol

from aidevos.contracts.errors import Failure
from aidevos.durable.bus.port import Delivery, PositionLost
from aidevos.feeds.audience import Audience

from ..http.connection import Connection
from . import events
from .event_filter import EventFilter
from .events import LiveEvent
from .subscriber import Subscriber
from .window import Repeats, Window

# Seconds between two signs of life, for the next event of those that are there, and for a reader to take a chunk.
HEARTBEAT = 15.0
READ_WITHIN = 10.0
WRITE_WITHIN = 30.0
# What may wait for one reader, and what is sent at a time, in bytes.
MAX_WAITING = 1000
MAX_WAITING_BYTES = 4 * 1024 * 1024
CHUNK = 64 * 1024
COMMENT = b": \n"
# Milliseconds after which a browser comes back, so that not all come at once.
RETRY = (500, 1500)
GAP = "events behind the last one that you have are not kept any more: read anew what they were about"
ENDS = {
    "draining": "the gateway restarts",
    "slow": "the events came faster than they were read",
    "unauthenticated": "the credential doesn't hold any more",
    "forbidden": "the permission events:read is gone",
    "unavailable": "whether events may be shown can't be found out at the moment",
    "restarted": "the stream of events began anew",
}


class EventSource(Protocol):
    """Where a stream gets its events: what the hub has read, and the bus behind it."""

    @property
    def window(self) -> Window: ...

    @property
    def audience(self) -> Audience[Subscriber]: ...

    def join(self, stream: Stream) -> None: ...

    def leave(self, stream: Stream) -> None: ...

    async def may_read(self, within: float) -> bool: ...

    def has_read(self) -> None: ...

    def read(self, after: int) -> AsyncGenerator[Delivery | None, None]: ...


class Stream:
    """A body of server-sent events. `after` is the position from which the reader resumes, None for now."""

    def __init__(
        self, hub: EventSource, wanted: EventFilter, reader: Subscriber, connection: Connection, after: int | None
    ) -> None:
        self.wanted = wanted
        self.reader = reader
        self._hub = hub
        self._connection = connection
        self._after = hub.window.end if after is None else after
        self._ended = ""
        # When the last chunk was handed out to be sent; None while the next one is being made.
        self._handed_at: float | None = None
        self._waiting: deque[LiveEvent] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._chunks = self._run()
        connection.watch(self.end)

    def offer(self, event: LiveEvent) -> None:
        """An event that is wanted, behind all others that were offered."""
        if event.position <= self._after or self._ended:
            return
        self._waiting.append(event)
        self._waiting_bytes += len(event.frame)
        self._wake.set()
        if len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
            self.end("slow")

    def end(self, reason: str) -> None:
        """End the stream, and tell the reader why if that is one of `ENDS`, and if it still listens."""
        if not self._ended:
            self._ended = reason
            self._waiting.clear()
            self._wake.set()

    def check_progress(self, now: float) -> None:
        """Let go of a reader that hasn't taken anything for too long."""
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
        self._hub.leave(self)
        await self._chunks.aclose()

    async def _run(self) -> AsyncGenerator[bytes, None]:
        yield b"retry: %d\n" % random.randint(*RETRY) + events.place(self._after)  # noqa: S311
        try:
            for part in (self._catch_up(), self._live()):
                async with aclosing(part) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except TimeoutError:
            self.end("unavailable")
        except Failure as failure:
            self.end("unauthenticated" if failure.code == "unauthenticated" else "unavailable")
        if self._ended in ENDS:
            yield events.told("end", self._ended, ENDS[self._ended])

    async def _catch_up(self) -> AsyncGenerator[bytes, None]:
        """What was missed; at its end this stream is offered everything that comes behind it."""
        joined = known = False
        while not joined and not self._ended:
            # A place behind the window may be one that only other gateways have seen so far, or none at all.
            if self._after < self._hub.window.start or (self._after > self._hub.window.end and not known):
                known = True
                async with aclosing(self._read()) as chunks:
                    async for chunk in chunks:
                        yield chunk
                continue
            missed, end = self._hub.window.after(self._after, self.wanted, MAX_WAITING, MAX_WAITING_BYTES)
            if end is None:
                self._hub.join(self)
                joined = True
            async with aclosing(self._shown(missed)) as chunks:
                async for chunk in chunks:
                    yield chunk
            self._after = max(self._after, end or 0)

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """What is not in the window, from the bus, as far as to the window."""
        while not await self._hub.may_read(HEARTBEAT):
            if self._ended:
                return
            yield COMMENT
        try:
            async with aclosing(self._from_bus()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except PositionLost:
            self._after = self._hub.window.end
            yield events.told("gap", "lost", GAP) + events.place(self._after)
        finally:
            self._hub.has_read()

    async def _from_bus(self) -> AsyncGenerator[bytes, None]:
        start, repeats, quiet_since = self._hub.window.start, Repeats(), time.monotonic()
        async with aclosing(self._hub.read(self._after)) as deliveries:
            while not self._ended:
                async with asyncio.timeout(READ_WITHIN):
                    delivery = await anext(deliveries)
                if delivery is None:
                    # All that was there when this began has been given, so the rest is in the window.
                    self._after = max(self._after, start)
                    return
                event = events.read(delivery)
                wanted = event is not None and repeats.is_new(event.id) and self.wanted.matches(event)
                if event is not None and wanted and await self._hub.audience.may_see(self.reader, event):
                    yield event.frame
                    quiet_since = time.monotonic()
                self._after = int(delivery.position)
                if self._hub.window.start <= self._after <= self._hub.window.end:
                    return
                if time.monotonic() - quiet_since > HEARTBEAT:
                    yield events.place(self._after)
                    quiet_since = time.monotonic()

    async def _live(self) -> AsyncGenerator[bytes, None]:
        while not self._ended:
            if self._waiting:
                async with aclosing(self._shown(self._taken())) as chunks:
                    async for chunk in chunks:
                        yield chunk
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._wake.wait()
            except TimeoutError:
                # Nothing waits, so what the window has beyond is not for this reader.
                self._after = max(self._after, self._hub.window.end)
                yield COMMENT + events.place(self._after)

    def _taken(self) -> Iterator[LiveEvent]:
        while self._waiting:
            event = self._waiting.popleft()
            self._waiting_bytes -= len(event.frame)
            yield event

    async def _shown(self, found: Iterable[LiveEvent]) -> AsyncGenerator[bytes, None]:
        """Those that are for the reader, in chunks."""
        frames: list[bytes] = []
        size = 0
        for event in found:
            if await self._hub.audience.may_see(self.reader, event):
                frames.append(event.frame)
                size += len(event.frame)
            self._after = max(self._after, event.position)
            if self._ended:
                return
            if size > CHUNK:
                yield b"".join(frames)
                frames, size = [], 0
        if frames:
            yield b"".join(frames)
