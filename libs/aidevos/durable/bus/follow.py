"""Following events, for a process that keeps something in step with them.

One reading serves all that a process keeps: a bus that can't choose by pattern sends each process
everything, and should do it once.
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
    """Events of several kinds, each object's in their order, from `since` seconds before now on. Whoever wants
    some says so before `follow` begins."""

    def __init__(self, bus: EventBus, *, since: float) -> None:
        self.loaded = asyncio.Event()
        self._bus = bus
        self._since = since
        self._readers: dict[str, tuple[msgspec.json.Decoder[Any], Apply]] = {}
        self._on_begin: list[Callable[[], None]] = []

    def on(self, pattern: str, type: type[Any], apply: Apply) -> None:
        """Have `apply` called with the object's ID and the event; each pattern can be asked for once."""
        self._readers[pattern] = msgspec.json.Decoder(type), apply

    def on_begin(self, call: Callable[[], None]) -> None:
        """Have this called whenever reading has begun anew, as after a reconnect: events before may be missing."""
        self._on_begin.append(call)

    async def follow(self) -> None:
        """Keep up until cancelled; `loaded` is set once what was there at the start has been read."""
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
                    # From here on nothing is missed.
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
