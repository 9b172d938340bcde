"""The messages of RabbitMQ: events as messages, reading of streams, and errors of its library."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, HeadersType
from aio_pika.exceptions import AMQPError

from aidevos.durable.bus.port import BusError, Delivery

SUBJECT = "aidevos-subject"
ATTEMPT = "aidevos-attempt"
TIMEOUT = 5.0
# The largest number of unsettled messages of one follower.
UNSETTLED = 128
ACK_EVERY = UNSETTLED // 4
# aio_pika reports closed channels and connections as a RuntimeError.
CONNECTION_ERRORS = (AMQPError, RuntimeError, OSError, TimeoutError)


@contextlib.contextmanager
def as_bus_errors() -> Iterator[None]:
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


def make_message(payload: bytes, id: str, headers: HeadersType, content_type: str | None = None) -> Message:
    return Message(
        payload,
        message_id=id,
        headers=headers,
        content_type=content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=time.time(),
    )


def read_delivery(message: AbstractIncomingMessage) -> Delivery:
    headers = message.headers
    attempt = int(headers.get(ATTEMPT, 1)) + int(headers.get("x-delivery-count", 0))  # type: ignore[arg-type]
    subject, offset = str(headers.get(SUBJECT, "")), str(headers.get("x-stream-offset", ""))
    return Delivery(subject, message.body, message.message_id or "", attempt, offset)


async def publish_marker(channel: AbstractChannel, stream: str) -> str:
    """Append a marker, which is not an event, to the end of a stream. Return its ID."""
    marker = make_message(b"", f"marker {uuid4().hex}", {})
    await channel.default_exchange.publish(marker, stream, mandatory=True, timeout=TIMEOUT)
    return str(marker.message_id)


def start_offset(since: float | None, after: str) -> str | int | datetime:
    if after:
        return int(after) + 1
    return "next" if since is None else datetime.fromtimestamp(int(since), UTC)


async def read_stream(
    channel: AbstractChannel, stream: str, offset: str | int | datetime
) -> AsyncIterator[AbstractIncomingMessage]:
    """Start to consume a stream from an offset and return its messages. They end when the channel closes."""
    received: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
    await channel.set_qos(UNSETTLED)
    lost = await watch_closing(channel)
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


async def watch_closing(channel: AbstractChannel) -> asyncio.Future[Any]:
    """Return a future that is done once the channel is closed. If the broker cancels a consumer, close the channel."""
    closing: list[asyncio.Task[None]] = []

    def cancelled(frame: Any) -> None:
        closing.append(asyncio.ensure_future(channel.close()))

    (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(cancelled)
    return asyncio.ensure_future(channel.closed())
