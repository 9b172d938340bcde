"""Acknowledgements of tells, each of which the server confirms.

All confirmations arrive at one inbox, without a request of nats-py for each. That would cost a host as much as the
rest of a tell.
"""

from __future__ import annotations

import asyncio
import itertools

from nats.errors import NoRespondersError

from aidevos.durable.client.connection import Connection

ACK_WITHIN = 5.0
# How the server's own answer begins if the consumer is gone.
_UNTAKEN = b"NATS/1.0 503"


class Acknowledgements:
    """Acknowledges what one process has read from streams."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inbox = ""
        self._tokens = itertools.count()
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    async def send(self, subject: str) -> None:
        """Acknowledge the message with this reply subject, and return once the server has confirmed it.

        Raises an error of nats-py, or `TimeoutError` after `ACK_WITHIN` seconds.
        """
        if not self._inbox:
            self._inbox = self._connection.new_inbox() + "."
            await self._connection.hand_over(self._inbox + "*", "", self._on_confirmed)
        inbox, loop = f"{self._inbox}{next(self._tokens):x}", asyncio.get_running_loop()
        confirmed = self._waiting[inbox.encode()] = loop.create_future()
        timer = loop.call_later(ACK_WITHIN, _fail, confirmed, TimeoutError())
        try:
            await self._connection.publish(subject, b"+ACK", reply=inbox)
            await confirmed
        finally:
            timer.cancel()
            del self._waiting[inbox.encode()]

    def _on_confirmed(self, subject: bytes, reply: bytes, payload: bytes, headers: bytes) -> None:
        confirmed = self._waiting.get(subject)
        if confirmed is None or confirmed.done():
            return
        if headers.startswith(_UNTAKEN):
            confirmed.set_exception(NoRespondersError())
        else:
            confirmed.set_result(None)


def _fail(confirmed: asyncio.Future[None], error: Exception) -> None:
    if not confirmed.done():
        confirmed.set_exception(error)
