"""One reader's stream of events, from beginning to end.

Promises: the reader gets events in the stream's order, each once, starting after the position from
which it resumes. No event that it may see is skipped before the stream ends. Waiting events are
bounded. A reader that is too slow is told so and disconnected, and misses nothing when it resumes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Protocol

from aidevos.contracts.errors import Failure
from aidevos.durable.bus.port import Delivery, PositionLost
from aidevos.feeds.audience import READ_EVENTS, Audience
from aidevos.feeds.shown_events import ItemChange

from ..http.connection import Connection
from . import events
from .endless_body import COMMENT, HEARTBEAT, EndlessBody, end_frames, retry_line
from .event_filter import EventFilter
from .events import LiveEvent
from .subscriber import Subscriber
from .window import SeenIds, Window

# Seconds until the next stored event must arrive.
READ_WITHIN = 10.0
# Bounds of the events that wait for one reader, and bytes sent at a time.
MAX_WAITING = 1000
MAX_WAITING_BYTES = 4 * 1024 * 1024
CHUNK = 64 * 1024
# The event of an item that nobody can read any more.
DELETED = "deleted"
GAP = "the events after your last one are no longer kept: read the affected objects again"


class EventSource(Protocol):
    """The source of a stream's events: the hub's window, and the bus behind it."""

    @property
    def window(self) -> Window: ...

    @property
    def audience(self) -> Audience[Subscriber]: ...

    def join(self, stream: Stream) -> None: ...

    def leave(self, stream: Stream) -> None: ...

    async def acquire_read(self, within: float) -> bool: ...

    def release_read(self) -> None: ...

    def read(self, after: int) -> AsyncGenerator[Delivery | None, None]: ...


class Stream(EndlessBody):
    """A body of server-sent events; `after` is the position from which to resume, None for now."""

    permission = READ_EVENTS

    def __init__(
        self, hub: EventSource, wanted: EventFilter, reader: Subscriber, connection: Connection, after: int | None
    ) -> None:
        self.wanted = wanted
        self._hub = hub
        self._after = hub.window.end if after is None else after
        self._waiting: deque[LiveEvent] = deque()
        self._waiting_bytes = 0
        super().__init__(reader, connection)

    def offer(self, event: LiveEvent) -> None:
        """Add an event that passes the filter, after all others that were offered."""
        if event.position <= self._after or self._ended:
            return
        self._waiting.append(event)
        self._waiting_bytes += len(event.frame)
        self._wake.set()
        if len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
            self.end("slow")

    def end(self, reason: str) -> None:
        super().end(reason)
        self._waiting.clear()

    def _leave(self) -> None:
        self._hub.leave(self)

    async def _run(self) -> AsyncGenerator[bytes, None]:
        yield retry_line() + events.position_frame(self._after)
        try:
            for part in (self._catch_up(), self._live()):
                async with aclosing(part) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except TimeoutError:
            self.end("unavailable")
        except Failure as failure:
            self.end("unauthenticated" if failure.code == "unauthenticated" else "unavailable")
        for frame in end_frames(self._ended):
            yield frame

    async def _catch_up(self) -> AsyncGenerator[bytes, None]:
        """Yield the missed events; afterwards the hub offers this stream every further event."""
        joined = known = False
        while not joined and not self._ended:
            # A position after the window may be one that only other gateways have seen yet, or an invalid one.
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
            async with aclosing(self._filter_visible(missed)) as chunks:
                async for chunk in chunks:
                    yield chunk
            self._after = max(self._after, end or 0)

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """Yield the events from the bus that lie before the window."""
        while not await self._hub.acquire_read(HEARTBEAT):
            if self._ended:
                return
            yield COMMENT
        try:
            async with aclosing(self._read_from_bus()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except PositionLost:
            self._after = self._hub.window.end
            yield events.notice_frame("gap", "lost", GAP) + events.position_frame(self._after)
        finally:
            self._hub.release_read()

    async def _read_from_bus(self) -> AsyncGenerator[bytes, None]:
        start, seen, quiet_since = self._hub.window.start, SeenIds(), time.monotonic()
        async with aclosing(self._hub.read(self._after)) as deliveries:
            while not self._ended:
                async with asyncio.timeout(READ_WITHIN):
                    delivery = await anext(deliveries)
                if delivery is None:
                    # The bus has delivered everything up to the start of this read, so the rest is in the window.
                    self._after = max(self._after, start)
                    return
                event = events.read(delivery)
                wanted = event is not None and seen.add(event.id) and self.wanted.matches(event)
                if event is not None and wanted and await self._hub.audience.may_see(self.reader, event):
                    yield await self._frame(event)
                    quiet_since = time.monotonic()
                self._after = int(delivery.position)
                if self._hub.window.start <= self._after <= self._hub.window.end:
                    return
                if time.monotonic() - quiet_since > HEARTBEAT:
                    yield events.position_frame(self._after)
                    quiet_since = time.monotonic()

    async def _live(self) -> AsyncGenerator[bytes, None]:
        while not self._ended:
            if self._waiting:
                async with aclosing(self._filter_visible(self._take_waiting())) as chunks:
                    async for chunk in chunks:
                        yield chunk
                continue
            self._wake.clear()
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._wake.wait()
            except TimeoutError:
                # Nothing waits, so the later events in the window aren't for this reader.
                self._after = max(self._after, self._hub.window.end)
                yield COMMENT + events.position_frame(self._after)

    def _take_waiting(self) -> Iterator[LiveEvent]:
        while self._waiting:
            event = self._waiting.popleft()
            self._waiting_bytes -= len(event.frame)
            yield event

    async def _frame(self, event: LiveEvent) -> bytes:
        """Return the frame of an event that the reader may see."""
        if not self.wanted.includes_items or not isinstance(event.about, ItemChange) or event.name == DELETED:
            return event.frame
        item = await self._hub.audience.read_item(self.reader, event.about)
        return event.frame if item is None else events.frame_with_item(event, item)

    async def _filter_visible(self, found: Iterable[LiveEvent]) -> AsyncGenerator[bytes, None]:
        """Yield chunks of the events that the reader may see."""
        frames: list[bytes] = []
        size = 0
        for event in found:
            if await self._hub.audience.may_see(self.reader, event):
                frames.append(await self._frame(event))
                size += len(frames[-1])
            self._after = max(self._after, event.position)
            if self._ended:
                return
            if size > CHUNK:
                yield b"".join(frames)
                frames, size = [], 0
        if frames:
            yield b"".join(frames)
