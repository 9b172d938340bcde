"""Reading a stream in order, through a consumer that only this reader uses.

Promise: all matching messages come once and in order. Reading ends with an error if one was lost on its way, if the
connection was lost, or if the server's side of the reading is gone, which shows within `silent_for` seconds.

nats-py's ordered consumer would wake the process four times a second, and replaces a consumer that the server has lost
without saying what was missed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

ACKNOWLEDGE = "$JS.ACK."
LAST_CONSUMER = "Nats-Last-Consumer"
STALLED = "Nats-Consumer-Stalled"


class Patience(NamedTuple):
    """Seconds between the server's signs of life, and those without one after which the reading is lost."""

    heartbeat: float
    silent_for: float


async def read_in_order(
    connection: Client,
    js: JetStreamContext,
    stream: str,
    config: ConsumerConfig,
    patience: Patience,
    *,
    check: Callable[[], Awaitable[None]],
    until: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[Msg | None, None]:
    """Yield the messages that the configuration selects. After all that existed at the start, yield None once.

    `check` is called once the reading has begun. Reading ends soon after `until` returns True. Raises the errors of
    `check` and of nats-py.
    """
    reconnects = connection.stats["reconnects"]
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = connection.new_inbox()
    reader = await connection.subscribe(inbox, cb=arrived.put, pending_msgs_limit=-1, pending_bytes_limit=-1)
    try:
        info = await js.add_consumer(stream, _consumer(config, inbox, patience))
        await check()
        waiting = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
        read = 0
        while connection.stats["reconnects"] == reconnects and not until():
            if waiting == 0:
                yield None
                waiting = -1
            if arrived.empty():
                async with asyncio.timeout(patience.silent_for):
                    message = await arrived.get()
            else:
                message = arrived.get_nowait()
            if not message.reply.startswith(ACKNOWLEDGE):
                # Messages that waited at the start may have been removed since.
                if not await _is_held_up(connection, message, read):
                    waiting = min(waiting, 0)
                continue
            read += 1
            if message.metadata.sequence.consumer != read:
                raise ConnectionClosedError
            waiting = max(waiting - 1, -1)
            yield message
    except TimeoutError:
        raise ConnectionClosedError from None
    finally:
        with suppress(NatsError):
            await reader.unsubscribe()
    if not until():
        raise ConnectionClosedError


def _consumer(config: ConsumerConfig, inbox: str, patience: Patience) -> ConsumerConfig:
    return config.evolve(
        deliver_subject=inbox,
        ack_policy=AckPolicy.NONE,
        idle_heartbeat=patience.heartbeat,
        mem_storage=True,
        num_replicas=1,
    )


async def _is_held_up(connection: Client, message: Msg, read: int) -> bool:
    """Handle a sign of life. If the server waits until its messages were read, let it go on and return True.

    Raises an error if the server has sent more than was read, or has lost its side.
    """
    headers = message.headers or {}
    if headers.get("Status") != "100" or int(headers.get(LAST_CONSUMER, read)) != read:
        raise ConnectionClosedError
    waits_at = message.reply or headers.get(STALLED, "")
    if waits_at:
        await connection.publish(waits_at)
    return bool(waits_at)
