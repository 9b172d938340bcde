"""The event bus on JetStream: one stream for all events, and a durable pull consumer per group.

Events published at the same time go to the stream as one atomic batch (NATS ADR-50), which the server writes to disk
once. A batch is accepted whole or not at all. The events of a refused batch are sent again one by one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from aidevos.contracts import subjects
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.base.tasks import cancel_and_wait, restart_on_failure
from aidevos.durable.bus.atomic_batch import BatchMessage, Unsupported, publish_batch
from aidevos.durable.bus.delivering import PAUSES, Lanes, group_name, handle_delivery
from aidevos.durable.bus.port import (
    AT_ONCE,
    ATTEMPTS,
    Bury,
    BusError,
    Delivery,
    Handler,
    OrderConflict,
    PositionLost,
    StreamFull,
)

log = logging.getLogger(__name__)
NUMBER = "Aidevos-Number"
WRONG_LAST_SEQUENCE = (10071, 10164)
STREAM_STORE_FAILED = 10077
TIMEOUT = 5.0
# The largest number of events in a batch, and the size in bytes above which an event is sent alone.
BATCH_COUNT = 100
LARGE = 64 * 1024
# The largest number of unsettled events of a group.
MAX_UNSETTLED = 1024
# Seconds after which a member's pull request expires on the server.
PULL_EXPIRES = 2.0
# Seconds after which an unsettled event is delivered to another member, as after a crash.
ACK_WAIT = 10.0
CHECK_EVERY = 1.0
EVENT_ID = "Aidevos-Event-Id"


class _StreamState(msgspec.Struct):
    messages: int
    first_seq: int
    last_seq: int
    first_ts: datetime
    last_ts: datetime
    num_deleted: int = 0
    deleted: list[int] = []


class _Stream(msgspec.Struct):
    created: datetime
    state: _StreamState


_stream = msgspec.json.Decoder(_Stream)


class JetStreamBus:
    """Events on JetStream.

    `connection` must be allowed to publish `event.>` and `replay.>` and to read the stream `EVENTS`, which must exist.
    """

    guards_order = True

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._js = connection.jetstream(timeout=TIMEOUT)
        self._batcher = Batcher(self._publish_all, BATCH_COUNT)

    async def read_last(self, scope: str) -> tuple[int, int]:
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
        event = BatchMessage(subject, payload, headers)
        sequence = None if len(payload) > LARGE else await self._batcher.get(event)
        return await self._publish_alone(event) if sequence is None else sequence

    async def _publish_all(self, events: Sequence[BatchMessage]) -> Sequence[int | None]:
        """Publish events as one batch. Return their sequences, or None for each if the server refused the batch."""
        if len(events) == 1:
            return [await self._publish_alone(events[0])]
        try:
            return await publish_batch(self._connection, self._js, events, TIMEOUT)
        except APIError:
            return [None] * len(events)
        except (NatsError, Unsupported) as error:
            raise BusError(f"JetStream: {error}") from error

    async def _publish_alone(self, event: BatchMessage) -> int:
        try:
            ack = await self._js.publish(event.subject, event.payload, timeout=TIMEOUT, headers=dict(event.headers))
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise OrderConflict from None
            if error.err_code == STREAM_STORE_FAILED and "maximum" in str(error.description):
                raise StreamFull(f"JetStream: {error.description}") from error
            raise BusError(f"JetStream: {error}") from error
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error
        if ack.duplicate:
            raise OrderConflict
        return ack.seq

    async def subscribe(
        self,
        pattern: str,
        group: str,
        handler: Handler,
        bury: Bury,
        *,
        attempts: int = ATTEMPTS,
        at_once: int = AT_ONCE,
    ) -> JetStreamSubscription:
        name = group_name(pattern, group)
        config = ConsumerConfig(
            durable_name=name,
            filter_subjects=[pattern, subjects.replayed(name, pattern)],
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=MAX_UNSETTLED,
        )
        settle = partial(_settle, handler, bury, attempts)
        subscription = JetStreamSubscription(self._connection, name, settle, at_once)
        try:
            await self._js.add_consumer(subjects.EVENTS_STREAM, config)
            await subscription.open()
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error
        return subscription

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        subject = subjects.replayed(group_name(pattern, group), delivery.subject)
        try:
            await self._js.publish(subject, delivery.payload, timeout=TIMEOUT, headers={EVENT_ID: delivery.id})
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error

    async def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        try:
            reconnects = self._connection.stats["reconnects"]
            config = _start_config(since, after)
            config.filter_subjects = list(patterns)
            config.idle_heartbeat = CHECK_EVERY
            reader = await self._js.subscribe(
                subjects.EVENTS, stream=subjects.EVENTS_STREAM, ordered_consumer=True, config=config
            )
            number = reader._id
            try:
                if after and not await self._keeps_all_after(int(after)):
                    raise PositionLost
                info, behind = await reader.consumer_info(), True
                # Some of the waiting events may already have been delivered.
                waiting = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
                # nats-py can't replace a consumer that the server has lost, because it began at a time.
                while self._connection.stats["reconnects"] == reconnects and reader._id == number:
                    if behind and waiting <= 0:
                        behind = False
                        yield None
                    try:
                        message = await reader.next_msg(timeout=CHECK_EVERY)
                    except NatsTimeout:
                        waiting = 0
                        continue
                    waiting = min(waiting - 1, message.metadata.num_pending)
                    yield _delivery(message)
            finally:
                with suppress(NatsError):
                    await reader.unsubscribe()
        except NatsError as error:
            raise BusError(f"JetStream: {error!r}") from error
        raise BusError("JetStream: the connection or the server's side of the subscription was lost")

    async def find_end(self, patterns: Sequence[str]) -> str:
        try:
            return str((await self._js.stream_info(subjects.EVENTS_STREAM)).state.last_seq)
        except NatsError as error:
            raise BusError(f"JetStream: {error!r}") from error

    async def complete_since(self, patterns: Sequence[str]) -> float:
        try:
            return await self._complete_since()
        except (NatsError, msgspec.DecodeError) as error:
            raise BusError(f"JetStream: {error!r}") from error

    async def _complete_since(self) -> float:
        """Return the time of the oldest event after the last missing one, or of the stream's creation."""
        stream = await self._describe_stream()
        state, created = stream.state, stream.created.timestamp()
        if state.num_deleted:
            last_deleted = max((await self._describe_stream(deleted_details=True)).state.deleted)
            if last_deleted < state.last_seq:
                found = await self._js.get_msg(subjects.EVENTS_STREAM, last_deleted + 1)
                return max(created, found.time.timestamp() if found.time else math.inf)
        elif state.first_seq <= 1:
            return created
        elif state.messages:
            return max(created, state.first_ts.timestamp())
        return max(created, state.last_ts.timestamp())

    async def _describe_stream(self, **options: Any) -> _Stream:
        """Return the server's description of the stream, which nats-py reads only in part."""
        subject = f"$JS.API.STREAM.INFO.{subjects.EVENTS_STREAM}"
        reply = await self._connection.request(subject, msgspec.json.encode(options), timeout=TIMEOUT)
        return _stream.decode(reply.data)

    async def close(self) -> None:
        """Do nothing: the connection belongs to the caller."""

    async def _keeps_all_after(self, sequence: int) -> bool:
        """True if every event after a sequence is still kept. Events expire from the beginning of the stream."""
        state = (await self._js.stream_info(subjects.EVENTS_STREAM)).state
        return state.first_seq - 1 <= sequence <= state.last_seq


class JetStreamSubscription:
    """One member of a group. It keeps a pull request open and settles each event that arrives."""

    def __init__(self, connection: Client, name: str, settle: Callable[[Msg], Awaitable[None]], at_once: int) -> None:
        self._connection = connection
        self._inbox = connection.new_inbox()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.EVENTS_STREAM}.{name}"
        self._settle = settle
        self._at_once = at_once
        self._paused = False
        self._requested = 0
        self._needs_more = asyncio.Event()
        self._unsettled: dict[str, Msg] = {}
        self._lanes = Lanes()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        self._messages = await self._connection.subscribe(self._inbox, cb=self._receive)
        self._tasks = [
            asyncio.create_task(restart_on_failure(work)) for work in (self._request_events, self._extend_ack_deadlines)
        ]

    async def pause(self) -> None:
        self._paused = True

    async def resume(self) -> None:
        self._paused = False
        self._needs_more.set()

    async def close(self) -> None:
        await cancel_and_wait(self._tasks)
        await self._lanes.close()
        with suppress(NatsError, TimeoutError):
            # Otherwise the server would deliver the next event to the pull request that is still open.
            await asyncio.wait_for(self._messages.drain(), TIMEOUT)  # type: ignore[no-untyped-call]
            await self._lanes.close()
            for message in self._unsettled.values():
                await message.nak()

    async def _request_events(self) -> None:
        while True:
            self._needs_more.clear()
            wanted = 0 if self._paused else self._at_once - len(self._unsettled) - self._requested
            try:
                if wanted > 0:
                    request = {"batch": wanted, "expires": int(PULL_EXPIRES * 1e9)}
                    await self._connection.publish(self._next, msgspec.json.encode(request), self._inbox)
                    self._requested += wanted
                # In Python 3.11, `wait_for` would swallow a cancellation that arrives together with the event.
                async with asyncio.timeout(PULL_EXPIRES + PAUSES[0]):
                    await self._needs_more.wait()
            except TimeoutError:
                self._requested = 0
            except ConnectionClosedError:
                return  # the connection is closed for good
            except NatsError as error:
                log.warning("events can't be requested, trying again: %s", error)
                self._requested = 0
                await asyncio.sleep(PAUSES[0])

    async def _receive(self, message: Msg) -> None:
        if "Status" in (message.headers or {}):
            self._requested = 0
        else:
            self._requested -= 1
            self._unsettled[message.reply] = message
            self._lanes.add(_delivery(message).subject, partial(self._process, message))
        self._request_more()

    async def _process(self, message: Msg) -> None:
        try:
            await self._settle(message)
        except NatsError as error:
            log.warning("an event was not acknowledged and will be delivered again: %s", error)
        except Exception:
            log.exception("settling an event failed; it will be delivered again")
        self._unsettled.pop(message.reply, None)
        self._request_more()

    def _request_more(self) -> None:
        if self._requested + len(self._unsettled) <= self._at_once // 2:
            self._needs_more.set()

    async def _extend_ack_deadlines(self) -> None:
        """Keep telling the server that the unsettled events are in progress."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            with suppress(NatsError):
                for message in tuple(self._unsettled.values()):
                    await message.in_progress()


async def _settle(handler: Handler, bury: Bury, attempts: int, message: Msg) -> None:
    pause = await handle_delivery(_delivery(message), handler, bury, attempts)
    if pause is None:
        await message.ack()
    else:
        await message.nak(delay=pause)


def _delivery(message: Msg) -> Delivery:
    headers, place = message.headers or {}, message.metadata
    id = headers.get("Nats-Msg-Id") or headers.get(EVENT_ID, "")
    subject = subjects.event_of(message.subject)
    return Delivery(subject, message.data, id, place.num_delivered, str(place.sequence.stream))


def _start_config(since: float | None, after: str) -> ConsumerConfig:
    if after:
        return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=int(after) + 1)
    if since is not None:
        start = datetime.fromtimestamp(since, UTC)
        return ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start)
    return ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
