"""The event bus on JetStream: one stream for all events, a durable pull consumer for each group.

Events that are published at the same time go to the stream as one atomic batch (NATS ADR-50), which it
writes to disk once. A batch is taken whole or not at all; one that is refused is sent again by the event.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, PubAck
from nats.js.errors import APIError, NotFoundError
from nats.nuid import NUID

from aidevos.contracts import subjects
from aidevos.durable.batch import Batcher
from aidevos.durable.bus.port import BusError, Delivery, Handler, Misplaced, StreamFull

log = logging.getLogger(__name__)
NUMBER = "Aidevos-Number"
WRONG_LAST_SEQUENCE = (10071, 10164)
STREAM_STORE_FAILED = 10077
TIMEOUT = 5.0
# Events in one batch, and the bytes of one that goes alone.
BATCH_COUNT = 100
LARGE = 64 * 1024
MAX_UNSETTLED = 256
ACK_WAIT = 30.0
FIRST_RETRY = 0.1
LAST_RETRY = 30.0


class _Event(NamedTuple):
    subject: str
    payload: bytes
    headers: dict[str, str]


class JetStreamBus:
    """`connection` may publish `event.>` and read the stream `EVENTS`, which exists."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=TIMEOUT)
        self._batch_ids = NUID()
        self._together = Batcher(self._publish_all, BATCH_COUNT)

    async def last(self, scope: str) -> tuple[int, int]:
        try:
            found = await self._js.get_last_msg(subjects.EVENTS_STREAM, scope)
        except NotFoundError:
            return 0, 0
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error
        return found.seq or 0, int((found.headers or {}).get(NUMBER, 0))

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        headers = {
            "Nats-Msg-Id": id,
            "Nats-Expected-Last-Subject-Sequence": str(after),
            "Nats-Expected-Last-Subject-Sequence-Subject": scope,
            NUMBER: str(number),
            "Content-Type": "application/cloudevents+json",
        }
        event = _Event(subject, payload, headers)
        sequence = None if len(payload) > LARGE else await self._together.get(event)
        return await self._publish_alone(event) if sequence is None else sequence

    async def _publish_all(self, events: Sequence[_Event]) -> Sequence[int | None]:
        """The sequences of the events; None for each where they have to be published one by one."""
        if len(events) == 1:
            return [await self._publish_alone(events[0])]
        batch = {"Nats-Batch-Id": self._batch_ids.next().decode()}
        try:
            for number, event in enumerate(events[:-1], 1):
                headers = event.headers | batch | {"Nats-Batch-Sequence": str(number)}
                await self._connection.publish(event.subject, event.payload, headers=headers)
            ack = await self._send(
                events[-1], batch | {"Nats-Batch-Sequence": str(len(events)), "Nats-Batch-Commit": "1"}
            )
        except APIError:
            return [None] * len(events)
        if ack.batch_size != len(events):
            raise BusError("JetStream: the server takes no batches")
        return range(ack.seq - len(events) + 1, ack.seq + 1)

    async def _publish_alone(self, event: _Event) -> int:
        try:
            ack = await self._send(event)
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise Misplaced from None
            if error.err_code == STREAM_STORE_FAILED and "maximum" in str(error.description):
                raise StreamFull(f"JetStream: {error.description}") from error
            raise BusError(f"JetStream: {error}") from error
        if ack.duplicate:
            raise Misplaced
        return ack.seq

    async def _send(self, event: _Event, more: Mapping[str, str] = MappingProxyType({})) -> PubAck:
        headers = {**event.headers, **more}
        try:
            return await self._js.publish(event.subject, event.payload, timeout=TIMEOUT, headers=headers)
        except APIError:
            raise
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error

    async def subscribe(self, pattern: str, group: str, handler: Handler) -> JetStreamSubscription:
        durable = f"{group}-{hashlib.sha256(pattern.encode()).hexdigest()[:12]}"
        config = ConsumerConfig(
            durable_name=durable,
            filter_subject=pattern,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=MAX_UNSETTLED,
        )
        try:
            subscription = await self._js.pull_subscribe(pattern, durable, subjects.EVENTS_STREAM, config=config)
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error
        return JetStreamSubscription(subscription, asyncio.create_task(_deliver(subscription, group, handler)))


class JetStreamSubscription:
    def __init__(self, subscription: Any, task: asyncio.Task[None]) -> None:
        self._subscription = subscription
        self._task = task

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        # Without this the server would give the next event to the request that is still open here.
        with suppress(ConnectionClosedError):
            await self._subscription.unsubscribe()


async def _deliver(subscription: Any, group: str, handler: Handler) -> None:
    while True:
        try:
            # A larger batch would be waited for until it is full.
            (message,) = await subscription.fetch(1, timeout=TIMEOUT)
        except NatsTimeout:
            continue
        except ConnectionClosedError:
            return  # for good, and nats-py says it also where this task was cancelled
        except NatsError as error:
            log.warning("fetching events for %s failed, trying again: %s", group, error)
            await asyncio.sleep(FIRST_RETRY)
            continue
        await _handle(message, group, handler)


async def _handle(message: Msg, group: str, handler: Handler) -> None:
    attempt = message.metadata.num_delivered
    event_id = (message.headers or {}).get("Nats-Msg-Id", "")
    pause = min(FIRST_RETRY * 2 ** min(attempt - 1, 16), LAST_RETRY)
    try:
        await handler(Delivery(message.subject, message.data, event_id, message.metadata.sequence.stream, attempt))
        await message.ack()
    except NatsError as error:
        log.warning("an event of %s was not acknowledged, it comes again: %s", group, error)
    except Exception:
        log.warning("the handler of %s failed on %s, trying again", group, event_id, exc_info=True)
        with suppress(NatsError):
            await message.nak(delay=pause)
