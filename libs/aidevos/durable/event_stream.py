"""Following one kind of events in the stream of all, for a process that keeps something in step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, DeliverPolicy

from aidevos.contracts import subjects

RETRY_AFTER = 0.2
CHECK_EVERY = 1.0

log = logging.getLogger(__name__)
Read = TypeVar("Read")


class EventStream(Generic[Read]):
    """One kind of events, each object's in their order, from `since` seconds ago on. `apply` gets the
    object's ID and the event; `begun` is called whenever reading begins anew, as after a reconnect."""

    def __init__(
        self,
        connection: Client,
        subject: str,
        type: type[Read],
        apply: Callable[[str, Read], None],
        *,
        since: float,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.loaded = asyncio.Event()
        self._connection = connection
        self._subject = subject
        self._decoder = msgspec.json.Decoder(type)
        self._apply = apply
        self._since = since
        self._begun = begun

    async def follow(self) -> None:
        """Keep up until cancelled; `loaded` is set once what was there at the start has been read."""
        while True:
            try:
                await self._read()
            except NatsError as error:
                log.warning("%s can't be read, trying again: %r", self._subject, error)
                await asyncio.sleep(RETRY_AFTER)

    async def _read(self) -> None:
        reconnects = self._connection.stats["reconnects"]
        js = self._connection.jetstream()
        since = datetime.now(UTC) - timedelta(seconds=self._since)
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
        stream = subjects.EVENTS_STREAM
        reader = await js.subscribe(self._subject, stream=stream, ordered_consumer=True, config=config)
        try:
            self._begun()
            waiting = (await reader.consumer_info()).num_pending
            while self._connection.stats["reconnects"] == reconnects:
                if not waiting:
                    self.loaded.set()
                try:
                    message = await reader.next_msg(timeout=CHECK_EVERY)
                except NatsTimeout:
                    waiting = 0
                    continue
                waiting = message.metadata.num_pending
                self._take(message.subject, message.data)
        finally:
            with contextlib.suppress(NatsError):
                await reader.unsubscribe()

    def _take(self, subject: str, payload: bytes) -> None:
        try:
            event = self._decoder.decode(payload)
        except msgspec.DecodeError:
            log.warning("an event on %s can't be read", subject)
            return
        self._apply(subject.split(".")[2], event)
