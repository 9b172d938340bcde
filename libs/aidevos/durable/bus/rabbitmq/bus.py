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
import ssl
from collections.abc import AsyncGenerator, Sequence

from aio_pika.exceptions import AuthenticationError, DeliveryError, PublishError

from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.base.tasks import restart_on_failure
from aidevos.durable.bus.delivering import group_name, matches, publish_one_by_one
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
from aidevos.durable.bus.rabbitmq.broker import Broker
from aidevos.durable.bus.rabbitmq.group import Member, RabbitMqSubscription
from aidevos.durable.bus.rabbitmq.messages import (
    CONNECTION_ERRORS,
    SUBJECT,
    TIMEOUT,
    as_bus_errors,
    make_message,
    publish_marker,
    read_delivery,
    read_stream,
    start_offset,
)
from aidevos.settings import SettingsError

START_WITHIN = 20.0


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
        self._broker = Broker(url, max_age=max_age, max_bytes=max_bytes, fleet_events=fleet_events, tls=tls)
        self._confirmed = 0

    async def open(self) -> None:
        """Connect and declare what is missing. Raises `SettingsError` if the URL is wrong or no broker answers."""
        end, pauses = asyncio.get_running_loop().time() + START_WITHIN, FOLLOWING.pauses()
        while True:
            try:
                await self._broker.connect()
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
        await self._broker.close(TIMEOUT)

    async def read_last(self, scope: str) -> tuple[int, int]:
        return 0, 0

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        with as_bus_errors():
            channel, exchange = await self._broker.open_publisher()
            message = make_message(payload, id, {SUBJECT: subject}, "application/cloudevents+json")
            confirmed = self._confirmed
            try:
                await exchange.publish(message, subject, mandatory=True, timeout=TIMEOUT)
            except PublishError as error:
                await self._broker.drop(channel)
                raise BusError("RabbitMQ: the event's queue is gone and will be declared again") from error
            except DeliveryError as error:
                raise StreamFull("RabbitMQ: a queue refuses the event") from error
            except TimeoutError as error:
                # A channel opened while the broker was starting may wait forever for a stream that it doesn't know.
                if self._confirmed == confirmed:
                    await self._broker.drop(channel)
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
        member = Member(self._broker, pattern, group_name(pattern, group), handler, bury, attempts, at_once)
        with as_bus_errors():
            await member.declare()
        return RabbitMqSubscription(member, asyncio.create_task(restart_on_failure(member.run)))

    async def select(self, pattern: str, group: str, wanted: Sequence[str]) -> None:
        """Do nothing: the group's queue gets all events of its pattern."""

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        queue = f"aidevos.group.{group_name(pattern, group)}"
        message = make_message(delivery.payload, delivery.id, {SUBJECT: delivery.subject})
        with as_bus_errors():
            channel, _ = await self._broker.open_publisher()
            await channel.default_exchange.publish(message, queue, mandatory=True, timeout=TIMEOUT)

    async def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        stream = self._broker.stream_of(patterns)
        if after and int(after) > int(await self.find_end(patterns)):
            raise PositionLost
        with as_bus_errors():
            async with await self._broker.channel() as channel:
                messages = await read_stream(channel, stream, start_offset(since, after))
                marker = await publish_marker(channel, stream)
                expected = int(after) + 1 if after else None
                async for message in messages:
                    delivery = read_delivery(message)
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
        with as_bus_errors():
            async with asyncio.timeout(TIMEOUT), await self._broker.channel() as channel:
                async for message in await read_stream(channel, self._broker.stream_of(patterns), "first"):
                    if message.timestamp is not None:
                        return message.timestamp.timestamp()
        raise BusError("RabbitMQ: the connection was lost")

    async def find_end(self, patterns: Sequence[str]) -> str:
        stream = self._broker.stream_of(patterns)
        with as_bus_errors():
            async with await self._broker.channel() as channel:
                messages = await read_stream(channel, stream, "next")
                marker = await publish_marker(channel, stream)
                async for message in messages:
                    if message.message_id == marker:
                        return read_delivery(message).position
        raise BusError("RabbitMQ: the connection was lost")
