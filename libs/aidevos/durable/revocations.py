"""Sessions that have ended, told to this process's verifier of tokens.

Promise: the tokens of a session are refused here within moments of the commit that has ended it.
The source is the stream of events, read from one token's lifetime ago on: so a process that was
down, or a server that was restarted, forgets none whose tokens could still be valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, DeliverPolicy

from aidevos.contracts import subjects
from aidevos.contracts.authentication import SESSION_ENDED
from aidevos.security.tokens import LIFETIME, TokenVerifier

RETRY_AFTER = 0.2
CHECK_EVERY = 1.0
# What clocks of the fleet's machines may differ.
MARGIN = 60.0

log = logging.getLogger(__name__)


class _Ended(msgspec.Struct):
    time: datetime


class Revocations:
    """Follows the ends of sessions for one verifier."""

    def __init__(self, connection: Client, verifier: TokenVerifier) -> None:
        self._connection = connection
        self._verifier = verifier
        self._loaded = asyncio.Event()

    async def loaded(self) -> None:
        """Return once every end that was known at the start has been read."""
        await self._loaded.wait()

    async def follow(self) -> None:
        """Keep up with the stream until cancelled."""
        while True:
            try:
                await self._read()
            except NatsError as error:
                log.warning("the ends of sessions can't be read, trying again: %r", error)
                await asyncio.sleep(RETRY_AFTER)

    async def _read(self) -> None:
        reconnects = self._connection.stats["reconnects"]
        js = self._connection.jetstream()
        since = datetime.now(UTC) - timedelta(seconds=LIFETIME + MARGIN)
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
        reader = await js.subscribe(SESSION_ENDED, stream=subjects.EVENTS_STREAM, ordered_consumer=True, config=config)
        try:
            waiting = (await reader.consumer_info()).num_pending
            while self._connection.stats["reconnects"] == reconnects:
                if not waiting:
                    self._loaded.set()
                try:
                    message = await reader.next_msg(timeout=CHECK_EVERY)
                except NatsTimeout:
                    waiting = 0
                    continue
                waiting = message.metadata.num_pending
                self._apply(message.subject, message.data)
        finally:
            with contextlib.suppress(NatsError):
                await reader.unsubscribe()

    def _apply(self, subject: str, payload: bytes) -> None:
        session = subject.split(".")[2]
        try:
            ended = msgspec.json.decode(payload, type=_Ended)
        except msgspec.DecodeError:
            log.warning("an event on %s can't be read", subject)
            return
        self._verifier.revoke(session, ended.time.timestamp())
