"""Groups of consumers on RabbitMQ: each group has a queue, and a queue of its dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue, ConsumerTag, HeadersType

from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.delivering import Lanes, handle_delivery
from aidevos.durable.bus.port import Bury, BusError, Handler
from aidevos.durable.bus.rabbitmq.broker import EVENTS, Broker, retry_queue, routing_key
from aidevos.durable.bus.rabbitmq.messages import (
    ATTEMPT,
    CONNECTION_ERRORS,
    SUBJECT,
    TIMEOUT,
    as_bus_errors,
    make_message,
    read_delivery,
    watch_closing,
)

log = logging.getLogger(__name__)
# Deliveries of one message without an outcome, as after a crash, before it moves to the dead queue.
CRASHES = 20
Settle = Callable[[AbstractIncomingMessage], Awaitable[None]]


class RabbitMqSubscription:
    """One member of a group, and the task that runs it."""

    def __init__(self, member: Member, task: asyncio.Task[None]) -> None:
        self._member = member
        self._task = task

    async def pause(self) -> None:
        await self._member.pause()

    async def resume(self) -> None:
        await self._member.resume()

    async def close(self) -> None:
        await cancel_and_wait([self._task])


class Member:
    """One member of a group: it consumes the group's queue and the queue of its dead letters."""

    def __init__(
        self,
        broker: Broker,
        pattern: str,
        name: str,
        handler: Handler,
        bury: Bury,
        attempts: int,
        at_once: int,
    ) -> None:
        self._broker = broker
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
            "x-expires": self._broker.group_expiry_ms,
        }
        await self._broker.declare(self._dead)
        await self._broker.declare(self._queue, (EVENTS, routing_key(self._pattern)), **dead)

    async def run(self) -> None:
        pauses = FOLLOWING.pauses()
        while True:
            try:
                with as_bus_errors():
                    await self._consume()
            except BusError as error:
                log.warning("%s can't be read, trying again: %s", self._queue, error)
            await pauses.wait()

    async def _consume(self) -> None:
        lanes = Lanes()
        async with await self._broker.channel() as channel:
            try:
                await self.declare()
                await channel.set_qos(self._at_once)
                lost = await watch_closing(channel)
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
        lanes.add(read_delivery(message).subject, partial(settle, message))

    async def _settle(
        self, channel: AbstractChannel, queue: str, attempts: int, message: AbstractIncomingMessage
    ) -> None:
        delivery = read_delivery(message)
        pause = await handle_delivery(delivery, self._handler, self._bury, attempts)
        try:
            if pause is not None:
                headers: HeadersType = {SUBJECT: delivery.subject, ATTEMPT: delivery.attempt + 1}
                again = make_message(delivery.payload, delivery.id, headers)
                exchange = await channel.get_exchange(retry_queue(pause), ensure=False)
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
