"""The event bus on JetStream: one stream for all events, and a durable pull consumer per group.

Events published together go to the stream as one atomic batch (NATS ADR-50), which the server writes to disk once. A
batch is accepted whole or not at all. The events of a refused batch are sent again one by one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from aidevos.contracts import subjects
from aidevos.durable.base.tasks import cancel_and_wait, restart_on_failure
from aidevos.durable.bus.atomic_batch import BatchMessage, Unsupported, publish_batch
from aidevos.durable.bus.delivering import PAUSES, Lanes, group_name, handle_delivery, publish_one_by_one
from aidevos.durable.bus.port import (
    AT_ONCE,
    ATTEMPTS,
    Bury,
    BusError,
    Delivery,
    Event,
    Handler,
    OrderConflict,
    PositionLost,
    StreamFull,
)
from aidevos.durable.bus.reading import Patience, read_in_order

log = logging.getLogger(__name__)
NUMBER = "Aidevos-Number"
WRONG_LAST_SEQUENCE = (10071, 10164)
STREAM_STORE_FAILED = 10077
TIMEOUT = 5.0
# The smallest number of events for which a batch costs the server less than single messages. For a batch, it makes and
# removes a store of its own, with six syncs.
FEWEST = 16
# The largest number of unsettled events of a group.
MAX_UNSETTLED = 1024
# Seconds after which a member's pull request expires on the server.
PULL_EXPIRES = 2.0
# Seconds after which an unsettled event is delivered to another member, as after a crash.
ACK_WAIT = 10.0
FOLLOWING = Patience(heartbeat=2.0, silent_for=5.0)
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

    async def read_last(self, scope: str) -> tuple[int, int]:
        try:
            found = await self._js.get_last_msg(subjects.EVENTS_STREAM, scope)
        except NotFoundError:
            return 0, 0
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error
        return found.seq or 0, int((found.headers or {}).get(NUMBER, 0))

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        headers = _headers(id, number) | _after(scope, after)
        try:
            ack = await self._js.publish(subject, payload, timeout=TIMEOUT, headers=headers)
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

    async def publish_batch(self, events: Sequence[Event]) -> list[int | Exception]:
        if len(events) < FEWEST:
            return await publish_one_by_one(self.publish, events)
        try:
            return list(await publish_batch(self._connection, self._js, _batch(events), TIMEOUT))
        except APIError:
            return await publish_one_by_one(self.publish, events)
        except (NatsError, Unsupported) as error:
            return [BusError(f"JetStream: {error}")] * len(events)

    async def subscribe(
        self,
        pattern: str,
        group: str,
        handler: Handler,
        bury: Bury,
        *,
        attempts: int = ATTEMPTS,
        at_once: int = AT_ONCE,
        only: Sequence[str] | None = None,
    ) -> JetStreamSubscription:
        settle = partial(_settle, handler, bury, attempts)
        subscription = JetStreamSubscription(self._connection, group_name(pattern, group), settle, at_once)
        await self.select(pattern, group, [pattern] if only is None else only)
        try:
            await subscription.open()
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error
        return subscription

    async def select(self, pattern: str, group: str, wanted: Sequence[str]) -> None:
        name = group_name(pattern, group)
        config = ConsumerConfig(
            durable_name=name,
            filter_subjects=[*wanted, subjects.replayed(name, pattern)],
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=MAX_UNSETTLED,
        )
        try:
            await self._js.add_consumer(subjects.EVENTS_STREAM, config)
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        subject = subjects.replayed(group_name(pattern, group), delivery.subject)
        try:
            await self._js.publish(subject, delivery.payload, timeout=TIMEOUT, headers={EVENT_ID: delivery.id})
        except NatsError as error:
            raise BusError(f"JetStream: {error}") from error

    async def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        config = _start_config(since, after).evolve(filter_subjects=list(patterns), flow_control=True)

        async def check() -> None:
            if after and not await self._keeps_all_after(int(after)):
                raise PositionLost

        reading = read_in_order(self._connection, self._js, subjects.EVENTS_STREAM, config, FOLLOWING, check=check)
        try:
            async with aclosing(reading) as messages:
                async for message in messages:
                    yield None if message is None else _delivery(message)
        except NatsError as error:
            raise BusError(f"JetStream: {error!r}") from error

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


def _headers(id: str, number: int) -> dict[str, str]:
    return {"Nats-Msg-Id": id, NUMBER: str(number), "Content-Type": "application/cloudevents+json"}


def _after(scope: str, sequence: int) -> dict[str, str]:
    """Return the headers of a message that the server accepts only after the last one of a scope."""
    return {
        "Nats-Expected-Last-Subject-Sequence": str(sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": scope,
    }


def _batch(events: Sequence[Event]) -> list[BatchMessage]:
    """Return the messages of a batch. The first event of each scope has a condition, which holds for the others too."""
    messages, scope = [], ""
    for event in events:
        headers = _headers(event.id, event.number)
        if event.scope != scope:
            scope = event.scope
            headers |= _after(scope, event.after)
        messages.append(BatchMessage(event.subject, event.payload, headers))
    return messages


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
