"""The connection to RabbitMQ, and the queues, streams and exchanges that it declares."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from typing import Any

import aio_pika
import aiormq.connection
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelPreconditionFailed

from aidevos.contracts import subjects
from aidevos.durable.bus.delivering import PAUSES
from aidevos.durable.bus.port import BusError
from aidevos.durable.bus.rabbitmq.messages import CONNECTION_ERRORS, TIMEOUT

log = logging.getLogger(__name__)
# aiormq also raises each error that it logs, and the code that catches it logs it.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
EVENTS = "aidevos.events"
FLEET = "aidevos.fleet"
HEARTBEAT = 10
DECLARE_WITHIN = 30.0
# Seconds between attempts to open a connection for events: while a broker is down, each object with an event asks.
ATTEMPT_EVERY = 0.2
SEGMENT_BYTES = 64 * 1024 * 1024
Binding = tuple[str, str]


class Broker:
    """A connection that is opened when it is needed. Whenever it opens, it declares what is missing.

    `max_age` (seconds) bounds the streams and `max_bytes` bounds each queue. Existing queues keep their bounds.
    `fleet_events` are the patterns that every process follows.
    """

    def __init__(
        self, url: str, *, max_age: float, max_bytes: int, fleet_events: Sequence[str], tls: ssl.SSLContext | None
    ) -> None:
        self._url = url
        self._tls = tls
        self._fleet_events = tuple(fleet_events)
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._publishing: tuple[AbstractChannel, AbstractExchange] | None = None
        self._opening = asyncio.Lock()
        self._next_attempt = 0.0

    @property
    def group_expiry_ms(self) -> int:
        """Milliseconds after which the queue of a group without members expires."""
        return min(int(self._max_age * 1000), 2**32 - 1)

    def stream_of(self, patterns: Sequence[str]) -> str:
        """Return the stream that has all events of these patterns."""
        return FLEET if set(patterns) <= set(self._fleet_events) else EVENTS

    async def channel(self) -> AbstractChannel:
        """Return a new channel with publisher confirms. The caller closes it."""
        return await (await self.connect()).channel(on_return_raises=True)

    async def declare(self, name: str, *bindings: Binding, **arguments: Any) -> None:
        """Declare a durable quorum queue and bind it to (exchange, routing key) pairs.

        An existing queue keeps its arguments.
        """
        await _declare(await self.connect(), name, self.quorum_arguments(**arguments), bindings)

    def quorum_arguments(self, **arguments: Any) -> dict[str, Any]:
        """Return the arguments of a quorum queue that rejects messages when full and loses no dead-lettered one."""
        kept = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-max-length-bytes": self._max_bytes}
        return kept | {"x-dead-letter-strategy": "at-least-once"} | arguments

    async def connect(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is None or not self._connection.connected.is_set():
                await self.close()
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
                await channel.declare_exchange(retry_queue(pause), ExchangeType.FANOUT, durable=True)
        await _declare(connection, EVENTS, stream, [(EVENTS, routing_key(subjects.EVENTS))])
        await _declare(connection, FLEET, stream, [(EVENTS, routing_key(pattern)) for pattern in self._fleet_events])
        for pause in PAUSES:
            arguments = self.quorum_arguments(**{"x-message-ttl": int(pause * 1000), "x-dead-letter-exchange": ""})
            await _declare(connection, retry_queue(pause), arguments, [(retry_queue(pause), "")])

    async def open_publisher(self) -> tuple[AbstractChannel, AbstractExchange]:
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

    async def drop(self, channel: AbstractChannel) -> None:
        """Drop the connection of a publisher's channel, so that everything is declared again.

        Does nothing if another caller has already done so.
        """
        if self._publishing is not None and self._publishing[0] is channel:
            await self.close()

    async def close(self, within: float = 0.0) -> None:
        """Close the connection gracefully, or abort it after `within` seconds. The next use opens a new one."""
        connection, self._connection, self._publishing = self._connection, None, None
        if connection is not None:
            await connection.end(within)


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


def retry_queue(pause: float) -> str:
    return f"aidevos.retry.{int(pause * 1000)}"


def routing_key(pattern: str) -> str:
    """Return a NATS pattern as a routing key. In a topic exchange `#` also matches nothing, hence `*.#`."""
    return pattern[:-1] + "*.#" if pattern.endswith(">") else pattern


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
