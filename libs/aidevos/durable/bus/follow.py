"""Following events, for processes that keep state in step with them.

A process reads events once for all its readers, because a bus that can't filter by pattern sends it every event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.bus.delivering import matches
from aidevos.durable.bus.port import BusError, Delivery, EventBus

log = logging.getLogger(__name__)
Apply = Callable[[str, Any], None]


class EventStream:
    """Events by pattern, starting `since` seconds ago. The events of one object come in order.

    Register every reader before `follow` begins. `loaded` is set once all events known at the start have been read.
    """

    def __init__(self, bus: EventBus, *, since: float) -> None:
        self.loaded = asyncio.Event()
        self._bus = bus
        self._since = since
        self._readers: dict[str, tuple[msgspec.json.Decoder[Any], Apply]] = {}
        self._on_begin: list[Callable[[], None]] = []

    def on(self, pattern: str, type: type[Any], apply: Apply) -> None:
        """Call `apply` with the object's ID and the decoded event, for each event of a pattern.

        Each pattern can have one reader.
        """
        self._readers[pattern] = msgspec.json.Decoder(type), apply

    def on_begin(self, call: Callable[[], None]) -> None:
        """Call a function whenever reading (re)starts, as after a reconnect. Earlier events may have been missed."""
        self._on_begin.append(call)

    async def follow(self) -> None:
        """Read events until cancelled. After an error, start again `since` seconds ago."""
        pauses = FOLLOWING.pauses()
        while True:
            try:
                await self._read()
            except BusError as error:
                log.warning("events can't be read, trying again: %s", error)
                await pauses.wait()

    async def _read(self) -> None:
        reading = self._bus.follow(list(self._readers), since=time.time() - self._since)
        async with contextlib.aclosing(reading) as events:
            async for event in events:
                if event is None:
                    # From here on, no event is missed.
                    for call in self._on_begin:
                        call()
                    self.loaded.set()
                else:
                    self._dispatch(event)

    def _dispatch(self, delivery: Delivery) -> None:
        for pattern, (decoder, apply) in self._readers.items():
            if matches(pattern, delivery.subject):
                try:
                    event = decoder.decode(delivery.payload)
                except msgspec.DecodeError:
                    log.warning("an event on %s can't be read", delivery.subject)
                    continue
                apply(delivery.subject.split(".")[2], event)
