"""The one subscription to the bus in this process, and the live streams that it feeds.

Promises: the bus is followed only once, and only while there are readers. A reader whose credential is
no longer valid, or has lost the permission, is disconnected within a second. The number of streams, in
total and per caller, never exceeds the settings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, NamedTuple

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.durable.bus.port import BusError, Delivery, EventBus, PositionLost
from aidevos.feeds import FOLLOWING
from aidevos.feeds.audience import READ_EVENTS, Audience
from aidevos.feeds.shown_events import ItemChange
from aidevos.observability.metrics import REFUSED_REQUESTS, SSE_READERS
from aidevos.security.permissions import Principal

from ..http.connection import Connection
from . import events
from .event_filter import EventFilter
from .events import LiveEvent
from .stream import Stream
from .subscriber import Subscriber
from .window import SeenIds, Window

ALL = (subjects.EVENTS,)
# Seconds of past events that are read at the start. Most readers that return after a restart missed only these.
WINDOW_AGE = 10.0
# Seconds for which the bus is still followed after the last reader has left.
LINGER = 30.0
CHECK_EVERY = 0.25
CHECK_WITHIN = 0.5
LOADED_WITHIN = 5.0
# Readers that may catch up from the bus at the same time.
READ_AT_ONCE = 16
# Seconds after which a caller with too many streams may try again.
FULL_FOR = 5.0
_REFUSED = REFUSED_REQUESTS.labels("streams")

log = logging.getLogger(__name__)
Topic = tuple[str, str]
EVERYTHING: Topic = ("", "")


class StreamLimits(NamedTuple):
    """The largest number of streams in total and of one caller."""

    streams: int
    of_caller: int


class Hub:
    def __init__(
        self, bus: EventBus, audience: Audience[Subscriber], admission: Admission, limits: StreamLimits
    ) -> None:
        self.audience = audience
        self._limits = limits
        self.window = Window(0)
        self._bus = bus
        self._admission = admission
        self._streams: set[Stream] = set()
        self._of_caller: Counter[str] = Counter()
        self._by_topic: defaultdict[Topic, set[Stream]] = defaultdict(set)
        self._needed = asyncio.Event()
        self._loaded = asyncio.Event()
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._seen = SeenIds()
        self._used_at = 0.0
        SSE_READERS.read_from(self, lambda hub: {(): len(hub._streams)})

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
        self._check_room(reader.caller.subject)
        stream = Stream(self, wanted, reader, connection, after)
        self._streams.add(stream)
        self._of_caller[reader.caller.subject] += 1
        return stream

    def join(self, stream: Stream) -> None:
        """Offer all further events to the stream."""
        for topic in _filter_topics(stream.wanted):
            self._by_topic[topic].add(stream)

    def leave(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        self._streams.remove(stream)
        self._used_at = time.monotonic()
        self._of_caller[stream.reader.caller.subject] -= 1
        self._of_caller += Counter()
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
                while self._streams or time.monotonic() - self._used_at < LINGER:
                    await asyncio.sleep(CHECK_EVERY)
                    await self._check()
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

    def _check_room(self, caller: str) -> None:
        if self._of_caller[caller] >= self._limits.of_caller:
            _REFUSED.inc()
            raise Failure("rate-limited", "this caller has too many open streams", retry_after=FULL_FOR)
        if len(self._streams) >= self._limits.streams:
            _REFUSED.inc()
            raise Failure("overloaded", "too many streams are open in this gateway", retry_after=FULL_FOR)

    async def _check(self) -> None:
        """Check every reader: it takes what it is sent, and its credential is still valid."""
        now = time.monotonic()
        readers: defaultdict[tuple[str, str], list[Stream]] = defaultdict(list)
        for stream in self._streams:
            stream.check_progress(now)
            readers[stream.reader.authorization, stream.reader.address].append(stream)
        unknown: list[Coroutine[Any, Any, None]] = []
        for (authorization, address), streams in readers.items():
            try:
                _update_caller(streams, self._admission.authenticate(authorization, address))
            except NotReady:
                unknown.append(self._look_up(authorization, address, streams))
            except Failure as failure:
                _end(streams, failure)
        await asyncio.gather(*unknown)

    async def _look_up(self, authorization: str, address: str, streams: list[Stream]) -> None:
        try:
            async with asyncio.timeout(CHECK_WITHIN):
                _update_caller(streams, await resolve_when_ready(self._admission.authenticate, authorization, address))
        except TimeoutError:
            _end(streams, Failure("unavailable", "the API key can't be looked up"))
        except Failure as failure:
            _end(streams, failure)


def _update_caller(streams: list[Stream], caller: Principal) -> None:
    allowed = caller.has(READ_EVENTS)
    for stream in streams:
        stream.reader = stream.reader._replace(caller=caller)
        if not allowed:
            stream.end("forbidden")


def _end(streams: list[Stream], failure: Failure) -> None:
    for stream in streams:
        stream.end("unauthenticated" if failure.code == "unauthenticated" else "unavailable")


def _filter_topics(wanted: EventFilter) -> list[Topic]:
    if wanted.collections:
        return [(type, name) for type in wanted.types for name in wanted.collections]
    return [(type, "") for type in wanted.types] or [EVERYTHING]


def _event_topics(event: LiveEvent) -> list[Topic]:
    """Return every topic of the event; a stream joins at most one of them."""
    found = [EVERYTHING, (event.type, "")]
    return [*found, (event.type, event.about.collection)] if isinstance(event.about, ItemChange) else found
