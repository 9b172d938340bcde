"""A survey: one request over NATS that any number of processes answer.

Promise: it takes at most `WITHIN` seconds. It ends when no further process has answered for `QUIET` seconds, because
nobody knows all processes at every moment, but not before those have answered that are known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aidevos.contracts.errors import Failure

WITHIN = 2.0
QUIET = 0.4
# The status by which the server itself answers that no process listens.
NOBODY = "503"


async def ask_all(
    connection: Client,
    subject: str,
    receive: Callable[[bytes], None],
    *,
    payload: bytes = b"",
    is_complete: Callable[[], bool] = lambda: True,
) -> None:
    """Call `receive` with each answer. Raises `unavailable` without NATS.

    `is_complete` returns False while processes haven't answered that are known to be there.
    """
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = connection.new_inbox()
    try:
        subscription = await connection.subscribe(inbox, cb=answers.put)
        try:
            await connection.publish(subject, payload, reply=inbox)
            with suppress(TimeoutError):
                async with asyncio.timeout(WITHIN):
                    await _gather(answers, receive, is_complete)
        finally:
            await subscription.unsubscribe()
    except NatsError as error:
        raise Failure("unavailable", "NATS can't be reached") from error


async def _gather(
    answers: asyncio.Queue[Msg], receive: Callable[[bytes], None], is_complete: Callable[[], bool]
) -> None:
    while True:
        try:
            message = await asyncio.wait_for(answers.get(), QUIET)
        except TimeoutError:
            if is_complete():
                return
        else:
            if (message.headers or {}).get("Status") != NOBODY:
                receive(message.data)
