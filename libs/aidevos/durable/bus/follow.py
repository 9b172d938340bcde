"""Following events, for processes that keep state in step with them.

A process reads events once for all its readers, because a bus that can't filter by pattern sends it every event.

Promise: the process learns of every gap in the events, when it starts and while it runs. There is a gap if the stream
is new, if it was purged, if it no longer has the last event that this process has read, or if a reader fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts.authentication import CLOCK_MARGIN
from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.base.tasks import run_together
from aidevos.durable.bus.delivering import matches
from aidevos.durable.bus.port import BusError, Delivery, EventBus

log = logging.getLogger(__name__)
# Seconds between two checks for a stream that was purged or made anew. Its followers would not notice by themselves.
CHECK_EVERY = 10.0
Apply = Callable[[str, Any], None]


class _Read(NamedTuple):
    """An event that was read at a time in seconds since the epoch."""

    id: str
    at: float


class EventStream:
    """Events by pattern, starting `since` seconds ago. The events of one object come in order.

    Register every reader before `follow` begins. `loaded` is set once all events known at the start have been read.
    """

    def __init__(self, bus: EventBus, *, since: float) -> None:
        self.loaded = asyncio.Event()
        self._bus = bus
        self._since = since
        # A change within these seconds may concern a token that is still alive.
        self._recent = max(since - CLOCK_MARGIN, 2 * CHECK_EVERY)
        self._readers: dict[str, tuple[msgspec.json.Decoder[Any], Apply]] = {}
        self._on_begin: list[Callable[[], None]] = []
        self._on_gap: list[Callable[[float], None]] = []
        self._last: _Read | None = None
        self._complete_since = 0.0

    def on(self, pattern: str, type: type[Any], apply: Apply) -> None:
        """Call `apply` with the object's ID and the decoded event, for each event of a pattern.

        Each pattern can have one reader.
        """
        self._readers[pattern] = msgspec.json.Decoder(type), apply

    def on_begin(self, call: Callable[[], None]) -> None:
        """Call a function whenever reading (re)starts, as after a reconnect. Earlier events may have been missed."""
        self._on_begin.append(call)

    def on_gap(self, call: Callable[[float], None]) -> None:
        """Call a function whenever recent events may be lost for good.

        Its argument is the time, in seconds since the epoch, since which no event is lost.
        """
        self._on_gap.append(call)

    async def follow(self) -> None:
        """Read events until cancelled. After an error, start again `since` seconds ago."""
        pauses = FOLLOWING.pauses()
        while True:
            try:
                await run_together(self._read(), self._watch())
            except BusError as error:
                log.warning("events can't be read, trying again: %s", error)
            await pauses.wait()

    async def _read(self) -> None:
        began = time.time()
        expected = self._last if self._last is not None and self._last.at > began - self._since else None
        newest: _Read | None = None
        reading = self._bus.follow(list(self._readers), since=began - self._since)
        async with contextlib.aclosing(reading) as events:
            async for event in events:
                if event is None:
                    complete_since = await self._bus.complete_since(list(self._readers))
                    self._begin(complete_since if expected is None else began)
                    if expected is not None:
                        # The gap is known now. What comes next is expected after what the stream still has.
                        expected, self._last = None, newest
                else:
                    newest = _Read(event.id, time.time())
                    if expected is None or expected.id == event.id:
                        expected, self._last = None, newest
                    self._dispatch(event)

    def _begin(self, complete_since: float) -> None:
        """Announce that from here on no event is missed, and none since `complete_since`."""
        self._complete_since = complete_since
        if complete_since > time.time() - self._recent:
            self._report_gap(complete_since)
        for call in self._on_begin:
            call()
        self.loaded.set()

    def _report_gap(self, complete_since: float) -> None:
        for report in self._on_gap:
            report(complete_since)

    async def _watch(self) -> None:
        """Raise `BusError` when recent events have been lost since reading began."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            complete_since = await self._bus.complete_since(list(self._readers))
            if complete_since > max(self._complete_since, time.time() - self._recent):
                raise BusError("the stream of events was purged or made anew")

    def _dispatch(self, delivery: Delivery) -> None:
        for pattern, (decoder, apply) in self._readers.items():
            if matches(pattern, delivery.subject):
                try:
                    event = decoder.decode(delivery.payload)
                except msgspec.DecodeError:
                    log.warning("an event on %s can't be read", delivery.subject)
                    continue
                try:
                    apply(delivery.subject.split(".")[2], event)
                except Exception:
                    log.exception("a reader of %s failed; what the event says counts as lost", delivery.subject)
                    self._report_gap(time.time())
