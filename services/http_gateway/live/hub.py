"""The one subscription to the bus in this process, and the live streams that it feeds.

Promise: the bus is followed only once, and only while there are readers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.bus.port import BusError, Delivery, EventBus, PositionLost
from aidevos.feeds import FOLLOWING
from aidevos.feeds.audience import Audience
from aidevos.feeds.shown_events import ItemChange

from ..http.connection import Connection
from . import events
from .event_filter import EventFilter
from .events import LiveEvent
from .readers import Readers
from .stream import Stream
from .subscriber import Subscriber
from .window import SeenIds, Window

ALL = (subjects.EVENTS,)
# Seconds of past events that are read at the start. Most readers that return after a restart missed only these.
WINDOW_AGE = 10.0
# Seconds for which the bus is still followed after the last reader has left.
LINGER = 30.0
LOOK_EVERY = 0.25
LOADED_WITHIN = 5.0
# Readers that may catch up from the bus at the same time.
READ_AT_ONCE = 16

log = logging.getLogger(__name__)
Topic = tuple[str, str]
EVERYTHING: Topic = ("", "")


class Hub:
    def __init__(self, bus: EventBus, audience: Audience[Subscriber], readers: Readers) -> None:
        self.audience = audience
        self.window = Window(0)
        self._bus = bus
        self._readers = readers
        self._streams: set[Stream] = set()
        self._by_topic: defaultdict[Topic, set[Stream]] = defaultdict(set)
        self._needed = asyncio.Event()
        self._loaded = asyncio.Event()
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._seen = SeenIds()
        self._used_at = 0.0

    async def open(self, wanted: EventFilter, reader: Subscriber, connection: Connection, after: int | None) -> Stream:
        """Return a new stream for a reader.

        Raises `rate-limited` or `overloaded` if there are too many, and `unavailable` while the bus
        can't be read.
        """
        self._needed.set()
        self._used_at = time.monotonic()
        try:
            async with asyncio.timeout(LOADED_WITHIN):
                await self._loaded.wait()
        except TimeoutError:
            raise Failure("unavailable", "the event stream can't be read at the moment") from None
        self._readers.check_room(reader.caller.subject)
        stream = Stream(self, wanted, reader, connection, after)
        self._readers.add(stream)
        self._streams.add(stream)
        return stream

    def join(self, stream: Stream) -> None:
        """Offer all further events to the stream."""
        for topic in _filter_topics(stream.wanted):
            self._by_topic[topic].add(stream)

    def leave(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        self._streams.remove(stream)
        self._readers.remove(stream)
        self._used_at = time.monotonic()
        for topic in _filter_topics(stream.wanted):
            self._by_topic[topic].discard(stream)
            if not self._by_topic[topic]:
                del self._by_topic[topic]

    async def acquire_read(self, within: float) -> bool:
        """Return True once the caller may catch up from the bus; it must call `release_read` afterwards.

        Returns False if no turn is free `within` this many seconds.
        """
        try:
            async with asyncio.timeout(within):
                await self._reading.acquire()
        except TimeoutError:
            return False
        return True

    def release_read(self) -> None:
        self._reading.release()

    def read(self, after: int) -> AsyncGenerator[Delivery | None, None]:
        """Yield the events after a position, from the bus."""
        return self._bus.follow(ALL, after=str(after))

    async def follow(self) -> None:
        """Serve readers until cancelled."""
        while True:
            await self._needed.wait()
            reading = asyncio.create_task(self._keep_reading())
            try:
                while self._streams or time.monotonic() - self._used_at < LINGER:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY)
            finally:
                self._needed.clear()
                self._loaded.clear()
                reading.cancel()
                await asyncio.wait([reading])

    async def _keep_reading(self) -> None:
        pauses = FOLLOWING.pauses()
        while True:
            try:
                await self._read()
            except BusError as error:
                log.warning("can't read events for live streams, trying again: %s", error)
            except PositionLost:
                log.warning("the event stream was recreated; all live streams end")
                self._loaded.clear()
                for stream in tuple(self._streams):
                    stream.end("restarted")
            except Exception:
                log.exception("reading events for live streams failed, trying again")
            await pauses.wait()

    async def _read(self) -> None:
        if self._loaded.is_set():
            reading = self._bus.follow(ALL, after=str(self.window.end))
        else:
            self.window, self._seen = Window(int(await self._bus.find_end(ALL))), SeenIds()
            reading = self._bus.follow(ALL, since=time.time() - WINDOW_AGE)
        first = not self._loaded.is_set()
        async with aclosing(reading) as deliveries:
            async for delivery in deliveries:
                if delivery is None:
                    self._loaded.set()
                    first = False
                    continue
                position = int(delivery.position)
                if first:
                    self.window, first = Window(position - 1), False
                self._dispatch(position, delivery)

    def _dispatch(self, position: int, delivery: Delivery) -> None:
        event = events.read(delivery) if self._seen.add(delivery.id) else None
        self.window.add(position, event)
        if event is None:
            return
        for topic in _event_topics(event):
            for stream in tuple(self._by_topic.get(topic, ())):
                if stream.wanted.matches(event):
                    stream.offer(event)


def _filter_topics(wanted: EventFilter) -> list[Topic]:
    if wanted.collections:
        return [(type, name) for type in wanted.types for name in wanted.collections]
    return [(type, "") for type in wanted.types] or [EVERYTHING]


def _event_topics(event: LiveEvent) -> list[Topic]:
    """Return every topic of the event; a stream joins at most one of them."""
    found = [EVERYTHING, (event.type, "")]
    return [*found, (event.type, event.about.collection)] if isinstance(event.about, ItemChange) else found
