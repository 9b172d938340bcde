"""A survey: one request over NATS that any number of processes answer.

Promise: it takes at most `WITHIN` seconds, and ends at a pause in the answers, because nobody knows all processes at
every moment, but not before those have answered that are known. The pause is `QUIET` seconds. Where leases say which
processes there are, `SETTLED` seconds suffice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.client.bucket import Bucket

log = logging.getLogger(__name__)
WITHIN = 2.0
QUIET = 0.4
SETTLED = 0.05
# The status by which the server itself answers that no process listens.
NOBODY = "503"
_LEASES = subjects.lease_key("", "").rstrip(".") + "."


async def find_hosts(connection: Client) -> set[str]:
    """Return the incarnations that hold leases, or none if the leases can't be read."""
    try:
        leases = await Bucket(connection, subjects.HOSTS_BUCKET, WITHIN).keys(_LEASES)
    except (NatsError, TimeoutError) as error:
        log.warning("the leases of the hosts can't be read: %r", error)
        return set()
    return {key.split(".", 2)[2] for key in leases}


async def ask_all(
    connection: Client,
    subject: str,
    receive: Callable[[bytes], None],
    *,
    payload: bytes = b"",
    is_complete: Callable[[], bool] = lambda: True,
    pause: float = QUIET,
) -> None:
    """Call `receive` with each answer. Raises `unavailable` without NATS.

    `is_complete` returns False while processes haven't answered that are known to be there. `pause` is in seconds.
    """
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = connection.new_inbox()
    try:
        subscription = await connection.subscribe(inbox, cb=answers.put)
        try:
            await connection.publish(subject, payload, reply=inbox)
            with suppress(TimeoutError):
                async with asyncio.timeout(WITHIN):
                    await _gather(answers, receive, is_complete, pause)
        finally:
            await subscription.unsubscribe()
    except NatsError as error:
        raise Failure("unavailable", "NATS can't be reached") from error


async def _gather(
    answers: asyncio.Queue[Msg], receive: Callable[[bytes], None], is_complete: Callable[[], bool], pause: float
) -> None:
    while True:
        try:
            message = await asyncio.wait_for(answers.get(), pause)
        except TimeoutError:
            if is_complete():
                return
        else:
            if (message.headers or {}).get("Status") != NOBODY:
                receive(message.data)
