"""The event bus on RabbitMQ: a topic exchange, a quorum queue per group, and streams for followers.

    aidevos.events (topic) ─┬─> aidevos.events (stream: all events)
                            ├─> aidevos.fleet (stream: the few that every process follows)
                            └─> aidevos.group.<group> (quorum) ──dead──> aidevos.dead.<group> (quorum)
    aidevos.retry.<ms> (fanout) ─> aidevos.retry.<ms> (quorum, messages live that long) ─> the group again

An event is published as mandatory and persistent. It counts as stored once the broker has confirmed it for every queue.
A group's queue refuses events when it is full, and then so does the bus. A queue without members expires after as long
as events are kept. The streams drop events by age and are bounded by the broker's disk alarm.

A stream can't filter by pattern. A process that follows anything but the fleet's own events is sent all events and
drops the rest. One process can follow about 10,000 events a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import aio_pika
import aiormq.connection
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import (
    AbstractChannel,
    AbstractConnection,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    ConsumerTag,
    HeadersType,
)
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)

from aidevos.contracts import subjects
from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.base.tasks import cancel_and_wait, restart_on_failure
from aidevos.durable.bus.delivering import PAUSES, Lanes, group_name, handle_delivery, matches, publish_one_by_one
from aidevos.durable.bus.port import (
    AT_ONCE,
    ATTEMPTS,
    Bury,
    BusError,
    Delivery,
    Event,
    Handler,
    PositionLost,
    StreamFull,
)
from aidevos.settings import SettingsError

log = logging.getLogger(__name__)
# aiormq also raises each error that it logs, and the code that catches it logs it.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
EVENTS = "aidevos.events"
FLEET = "aidevos.fleet"
SUBJECT = "aidevos-subject"
ATTEMPT = "aidevos-attempt"
TIMEOUT = 5.0
HEARTBEAT = 10
# Seconds between attempts to open a connection for events: while a broker is down, each object with an event asks.
ATTEMPT_EVERY = 0.2
START_WITHIN = 20.0
DECLARE_WITHIN = 30.0
# The largest number of unsettled messages of one follower.
UNSETTLED = 128
ACK_EVERY = UNSETTLED // 4
# Deliveries of one message without an outcome, as after a crash, before it moves to the dead queue.
CRASHES = 20
SEGMENT_BYTES = 64 * 1024 * 1024
Settle = Callable[[AbstractIncomingMessage], Awaitable[None]]
Binding = tuple[str, str]
# aio_pika reports closed channels and connections as a RuntimeError.
CONNECTION_ERRORS = (AMQPError, RuntimeError, OSError, TimeoutError)


class RabbitMqBus:
    """Events on RabbitMQ.

    `max_age` (seconds) bounds the streams and `max_bytes` bounds each queue. Existing queues keep their bounds.
    `fleet_events` are the patterns that every process follows.
    """

    guards_order = False

    def __init__(
        self,
        url: str,
        *,
        max_age: float,
        max_bytes: int,
        fleet_events: Sequence[str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._tls = tls
        self._fleet_events = tuple(fleet_events)
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._confirmed = 0
        self._publishing: tuple[AbstractChannel, AbstractExchange] | None = None
        self._next_attempt = 0.0

    async def open(self) -> None:
        """Connect and declare what is missing. Raises `SettingsError` if the URL is wrong or no broker answers."""
        end, pauses = asyncio.get_running_loop().time() + START_WITHIN, FOLLOWING.pauses()
        while True:
            try:
                await self._ensure_connected()
            except (AuthenticationError, ValueError) as error:
                raise SettingsError(f"RabbitMQ refuses AIDEVOS_EVENT_BUS_URL: {error}") from None
            except CONNECTION_ERRORS as error:
                # A broker that has just started takes a moment to load its queues.
                if isinstance(error, OSError) or asyncio.get_running_loop().time() > end:
                    raise SettingsError(f"no RabbitMQ answers at AIDEVOS_EVENT_BUS_URL: {error}") from None
                await pauses.wait()
            else:
                return

    async def close(self) -> None:
        connection = self._forget()
        if connection is not None:
            await connection.end(TIMEOUT)

    async def read_last(self, scope: str) -> tuple[int, int]:
        return 0, 0

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        with _as_bus_errors():
            channel, exchange = await self._open_publisher()
            message = _message(payload, id, {SUBJECT: subject}, "application/cloudevents+json")
            confirmed = self._confirmed
            try:
                await exchange.publish(message, subject, mandatory=True, timeout=TIMEOUT)
            except PublishError as error:
                await self._drop_connection_of(channel)
                raise BusError("RabbitMQ: the event's queue is gone and will be declared again") from error
            except DeliveryError as error:
                raise StreamFull("RabbitMQ: a queue refuses the event") from error
            except TimeoutError as error:
                # A channel opened while the broker was starting may wait forever for a stream that it doesn't know.
                if self._confirmed == confirmed:
                    await self._drop_connection_of(channel)
                raise BusError("RabbitMQ: the event was not confirmed in time") from error
            self._confirmed += 1
        return 0

    async def publish_batch(self, events: Sequence[Event]) -> list[int | Exception]:
        return await publish_one_by_one(self.publish, events)

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
    ) -> RabbitMqSubscription:
        member = _Member(self, pattern, group_name(pattern, group), handler, bury, attempts, at_once)
        with _as_bus_errors():
            await member.declare()
        return RabbitMqSubscription(member, asyncio.create_task(restart_on_failure(member.run)))

    async def select(self, pattern: str, group: str, wanted: Sequence[str]) -> None:
        """Do nothing: the group's queue gets all events of its pattern."""

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        queue = f"aidevos.group.{group_name(pattern, group)}"
        message = _message(delivery.payload, delivery.id, {SUBJECT: delivery.subject})
        with _as_bus_errors():
            channel, _ = await self._open_publisher()
            await channel.default_exchange.publish(message, queue, mandatory=True, timeout=TIMEOUT)

    async def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        stream = self._stream_of(patterns)
        if after and int(after) > int(await self.find_end(patterns)):
            raise PositionLost
        with _as_bus_errors():
            async with await self.channel() as channel:
                messages = await _read(channel, stream, _start_offset(since, after))
                marker = await _publish_marker(channel, stream)
                expected = int(after) + 1 if after else None
                async for message in messages:
                    delivery = _delivery(message)
                    if expected is not None and int(delivery.position) > expected:
                        raise PositionLost
                    expected = None
                    if delivery.id == marker:
                        yield None
                    if any(matches(pattern, delivery.subject) for pattern in patterns):
                        yield delivery
        raise BusError("RabbitMQ: the connection was lost")

    async def complete_since(self, patterns: Sequence[str]) -> float:
        """Return the time of the first message in the stream, which drops its oldest messages first.

        Each follower writes a marker when it begins, so even a new stream has a message.
        """
        with _as_bus_errors():
            async with asyncio.timeout(TIMEOUT), await self.channel() as channel:
                async for message in await _read(channel, self._stream_of(patterns), "first"):
                    if message.timestamp is not None:
                        return message.timestamp.timestamp()
        raise BusError("RabbitMQ: the connection was lost")

    @property
    def group_expiry_ms(self) -> int:
        """Milliseconds after which the queue of a group without members expires."""
        return min(int(self._max_age * 1000), 2**32 - 1)

    async def find_end(self, patterns: Sequence[str]) -> str:
        stream = self._stream_of(patterns)
        with _as_bus_errors():
            async with await self.channel() as channel:
                messages = await _read(channel, stream, "next")
                marker = await _publish_marker(channel, stream)
                async for message in messages:
                    if message.message_id == marker:
                        return _delivery(message).position
        raise BusError("RabbitMQ: the connection was lost")

    async def channel(self) -> AbstractChannel:
        """Return a new channel with publisher confirms. The caller closes it."""
        return await (await self._ensure_connected()).channel(on_return_raises=True)

    async def declare(self, name: str, *bindings: Binding, **arguments: Any) -> None:
        """Declare a durable quorum queue and bind it to (exchange, routing key) pairs.

        An existing queue keeps its arguments.
        """
        await _declare(await self._ensure_connected(), name, self.quorum_arguments(**arguments), bindings)

    def quorum_arguments(self, **arguments: Any) -> dict[str, Any]:
        """Return the arguments of a quorum queue that rejects messages when full and loses no dead-lettered one."""
        kept = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length-bytes": self._max_bytes}
        return kept | {"x-dead-letter-strategy": "at-least-once"} | arguments

    async def _ensure_connected(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is None or not self._connection.connected.is_set():
                await self._drop()
                connection = await aio_pika.connect(
                    self._url,
                    ssl_context=self._tls,
                    connection_class=_Connection,
                    timeout=TIMEOUT,
                    heartbeat=HEARTBEAT,
                )
                limit = asyncio.get_running_loop().call_later(DECLARE_WITHIN, connection.abort)
                try:
                    await self._declare_all(connection)
                except BaseException:
                    await connection.end(0)
                    raise
                finally:
                    limit.cancel()
                self._connection = connection
            return self._connection

    async def _declare_all(self, connection: AbstractConnection) -> None:
        stream = {
            "x-queue-type": "stream",
            "x-max-age": f"{int(self._max_age)}s",
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        }
        async with connection.channel() as channel:
            await channel.declare_exchange(EVENTS, ExchangeType.TOPIC, durable=True)
            for pause in PAUSES:
                await channel.declare_exchange(_retry_queue(pause), ExchangeType.FANOUT, durable=True)
        await _declare(connection, EVENTS, stream, [(EVENTS, _routing_key(subjects.EVENTS))])
        await _declare(connection, FLEET, stream, [(EVENTS, _routing_key(pattern)) for pattern in self._fleet_events])
        for pause in PAUSES:
            arguments = self.quorum_arguments(**{"x-message-ttl": int(pause * 1000), "x-dead-letter-exchange": ""})
            await _declare(connection, _retry_queue(pause), arguments, [(_retry_queue(pause), "")])

    def _stream_of(self, patterns: Sequence[str]) -> str:
        """Return the stream that has all events of these patterns."""
        return FLEET if set(patterns) <= set(self._fleet_events) else EVENTS

    async def _open_publisher(self) -> tuple[AbstractChannel, AbstractExchange]:
        """Return the channel and exchange for publishing.

        They are shared, because a broker allows only about 2,000 channels per connection.
        """
        async with self._opening:
            if self._publishing is None or self._publishing[0].is_closed:
                now = asyncio.get_running_loop().time()
                if now < self._next_attempt:
                    raise BusError("RabbitMQ: there is no connection, and the last attempt was a moment ago")
                self._next_attempt = now + ATTEMPT_EVERY
                channel = await self.channel()
                self._publishing = channel, await channel.get_exchange(EVENTS, ensure=False)
            return self._publishing

    async def _drop_connection_of(self, channel: AbstractChannel) -> None:
        """Drop the connection, so that everything is declared again, unless another caller has already done so."""
        if self._publishing is not None and self._publishing[0] is channel:
            await self._drop()

    async def _drop(self) -> None:
        connection = self._forget()
        if connection is not None:
            await connection.end(0)

    def _forget(self) -> _Connection | None:
        connection, self._connection, self._publishing = self._connection, None, None
        return connection


class _Connection(aio_pika.Connection):
    """A connection that can be ended even if the broker no longer reads. The library would wait to flush its buffer."""

    def __init__(self, url: Any, **options: Any) -> None:
        super().__init__(url, **options)
        self._socket = self.kwargs["transport_factory"] = _Socket(self.url.scheme)

    def abort(self) -> None:
        """Close the socket at once. All operations in progress fail."""
        self._socket.abort()

    async def end(self, within: float) -> None:
        """Close the connection gracefully, or abort it after `within` seconds."""
        limit = asyncio.get_running_loop().call_later(within, self.abort)
        with contextlib.suppress(*CONNECTION_ERRORS):
            await self.close()
        limit.cancel()


class _Socket(aiormq.connection.TransportFactory):
    """A transport factory that remembers its connection, so that it can be aborted."""

    def __init__(self, scheme: str) -> None:
        plain, secure = aiormq.connection.TCPTransportFactory, aiormq.connection.TLSTransportFactory
        self._factory = secure() if scheme == "amqps" else plain()
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: Any, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._factory.create(url, **options)
        return reader, self._writer

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


class RabbitMqSubscription:
    """One member of a group, and the task that runs it."""

    def __init__(self, member: _Member, task: asyncio.Task[None]) -> None:
        self._member = member
        self._task = task

    async def pause(self) -> None:
        await self._member.pause()

    async def resume(self) -> None:
        await self._member.resume()

    async def close(self) -> None:
        await cancel_and_wait([self._task])


class _Member:
    """One member of a group: it consumes the group's queue and the queue of its dead letters."""

    def __init__(
        self,
        bus: RabbitMqBus,
        pattern: str,
        name: str,
        handler: Handler,
        bury: Bury,
        attempts: int,
        at_once: int,
    ) -> None:
        self._bus = bus
        self._pattern = pattern
        self._queue = f"aidevos.group.{name}"
        self._dead = f"aidevos.dead.{name}"
        self._handler = handler
        self._bury = bury
        self._attempts = attempts
        self._at_once = at_once
        self._paused = False
        self._consumers: list[_Consumer] = []

    async def pause(self) -> None:
        self._paused = True
        with contextlib.suppress(*CONNECTION_ERRORS):
            for consumer in self._consumers:
                await consumer.stop()

    async def resume(self) -> None:
        self._paused = False
        with contextlib.suppress(*CONNECTION_ERRORS):
            for consumer in self._consumers:
                await consumer.start()

    async def declare(self) -> None:
        dead = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._dead,
            "x-delivery-limit": CRASHES,
            "x-expires": self._bus.group_expiry_ms,
        }
        await self._bus.declare(self._dead)
        await self._bus.declare(self._queue, (EVENTS, _routing_key(self._pattern)), **dead)

    async def run(self) -> None:
        pauses = FOLLOWING.pauses()
        while True:
            try:
                with _as_bus_errors():
                    await self._consume()
            except BusError as error:
                log.warning("%s can't be read, trying again: %s", self._queue, error)
            await pauses.wait()

    async def _consume(self) -> None:
        lanes = Lanes()
        async with await self._bus.channel() as channel:
            try:
                await self.declare()
                await channel.set_qos(self._at_once)
                lost = await _watch_closing(channel)
                for name, attempts in ((self._queue, self._attempts), (self._dead, 0)):
                    queue = await channel.get_queue(name, ensure=False)
                    take = partial(self._take, lanes, partial(self._settle, channel, name, attempts))
                    self._consumers.append(_Consumer(queue, take))
                if not self._paused:
                    await self.resume()
                await lost
            finally:
                self._consumers = []
                await lanes.close()

    async def _take(self, lanes: Lanes, settle: Settle, message: AbstractIncomingMessage) -> None:
        lanes.add(_delivery(message).subject, partial(settle, message))

    async def _settle(
        self, channel: AbstractChannel, queue: str, attempts: int, message: AbstractIncomingMessage
    ) -> None:
        delivery = _delivery(message)
        pause = await handle_delivery(delivery, self._handler, self._bury, attempts)
        try:
            if pause is not None:
                headers: HeadersType = {SUBJECT: delivery.subject, ATTEMPT: delivery.attempt + 1}
                again = _message(delivery.payload, delivery.id, headers)
                exchange = await channel.get_exchange(_retry_queue(pause), ensure=False)
                await exchange.publish(again, queue, mandatory=True, timeout=TIMEOUT)
            await message.ack()
        except CONNECTION_ERRORS as error:
            log.warning("%s was not acknowledged and will be delivered again: %r", delivery.id, error)
            with contextlib.suppress(*CONNECTION_ERRORS):
                await message.nack(requeue=True)


class _Consumer:
    """A consumer of one queue that can be stopped and started."""

    def __init__(self, queue: AbstractQueue, take: Callable[[AbstractIncomingMessage], Awaitable[None]]) -> None:
        self._queue = queue
        self._take = take
        self._tag: ConsumerTag | None = None

    async def start(self) -> None:
        if self._tag is None:
            self._tag = await self._queue.consume(self._take)

    async def stop(self) -> None:
        tag, self._tag = self._tag, None
        if tag is not None:
            await self._queue.cancel(tag)


@contextlib.contextmanager
def _as_bus_errors() -> Iterator[None]:
    """Translate connection errors to `BusError`.

    A lost connection also cancels the tasks that wait for it, which must not look like a cancellation by the caller.
    """
    try:
        yield
    except CONNECTION_ERRORS as error:
        raise BusError(f"RabbitMQ: {error!r}") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise BusError("RabbitMQ: the connection was lost") from None


def _message(payload: bytes, id: str, headers: HeadersType, content_type: str | None = None) -> Message:
    return Message(
        payload,
        message_id=id,
        headers=headers,
        content_type=content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=time.time(),
    )


def _delivery(message: AbstractIncomingMessage) -> Delivery:
    headers = message.headers
    attempt = int(headers.get(ATTEMPT, 1)) + int(headers.get("x-delivery-count", 0))  # type: ignore[arg-type]
    subject, offset = str(headers.get(SUBJECT, "")), str(headers.get("x-stream-offset", ""))
    return Delivery(subject, message.body, message.message_id or "", attempt, offset)


async def _publish_marker(channel: AbstractChannel, stream: str) -> str:
    """Append a marker, which is not an event, to the end of a stream. Return its ID."""
    marker = _message(b"", f"marker {uuid4().hex}", {})
    await channel.default_exchange.publish(marker, stream, mandatory=True, timeout=TIMEOUT)
    return str(marker.message_id)


def _retry_queue(pause: float) -> str:
    return f"aidevos.retry.{int(pause * 1000)}"


def _routing_key(pattern: str) -> str:
    """Return a NATS pattern as a routing key. In a topic exchange `#` also matches nothing, hence `*.#`."""
    return pattern[:-1] + "*.#" if pattern.endswith(">") else pattern


def _start_offset(since: float | None, after: str) -> str | int | datetime:
    if after:
        return int(after) + 1
    return "next" if since is None else datetime.fromtimestamp(int(since), UTC)


async def _declare(
    connection: AbstractConnection, name: str, arguments: dict[str, Any], bindings: Sequence[Binding]
) -> None:
    """Declare a queue and its bindings. A refused declaration closes its channel, so the bindings use a second one."""
    try:
        async with connection.channel() as channel:
            await channel.declare_queue(name, durable=True, arguments=arguments)
    except ChannelPreconditionFailed as error:
        log.warning("the queue %s already exists and keeps its bounds: %s", name, error)
    async with connection.channel() as channel:
        queue = await channel.get_queue(name, ensure=False)
        for exchange, key in bindings:
            await queue.bind(exchange, key)


async def _read(
    channel: AbstractChannel, stream: str, offset: str | int | datetime
) -> AsyncIterator[AbstractIncomingMessage]:
    """Start to consume a stream from an offset and return its messages. They end when the channel closes."""
    received: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
    await channel.set_qos(UNSETTLED)
    lost = await _watch_closing(channel)
    lost.add_done_callback(lambda _: received.put_nowait(None))
    queue = await channel.get_queue(stream, ensure=False)
    await queue.consume(received.put, arguments={"x-stream-offset": offset})

    async def messages() -> AsyncIterator[AbstractIncomingMessage]:
        count = 0
        while (message := await received.get()) is not None:
            count += 1
            if count % ACK_EVERY == 0:
                await message.ack(multiple=True)
            yield message

    return messages()


async def _watch_closing(channel: AbstractChannel) -> asyncio.Future[Any]:
    """Return a future that is done once the channel is closed. If the broker cancels a consumer, close the channel."""
    closing: list[asyncio.Task[None]] = []

    def cancelled(frame: Any) -> None:
        closing.append(asyncio.ensure_future(channel.close()))

    (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(cancelled)
    return asyncio.ensure_future(channel.closed())
