"""The hosts of the fleet, which the gateway asks all at once.

Promise: an answer takes at most `WITHIN` seconds. It comes as soon as no further host has answered for `QUIET` seconds,
because nobody knows all hosts at every moment.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.fleet import FleetHosts, HostInfo

log = logging.getLogger(__name__)
WITHIN = 2.0
QUIET = 0.4
_host = msgspec.json.Decoder(HostInfo)


class Hosts:
    """Asks the hosts over one connection."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def find(self) -> FleetHosts:
        """Return the descriptions of all hosts that answer in time. Raises `unavailable` without NATS."""
        answers: asyncio.Queue[Msg] = asyncio.Queue()
        inbox = self._connection.new_inbox()
        try:
            subscription = await self._connection.subscribe(inbox, cb=answers.put)
            try:
                await self._connection.publish(subjects.FLEET, reply=inbox)
                hosts = await _gather(answers)
            finally:
                await subscription.unsubscribe()
        except NatsError as error:
            raise Failure("unavailable", "NATS can't be reached") from error
        return FleetHosts(sorted(hosts, key=lambda host: (host.service, host.replica, host.since)))


async def _gather(answers: asyncio.Queue[Msg]) -> list[HostInfo]:
    hosts: list[HostInfo] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(WITHIN):
            while True:
                message = await asyncio.wait_for(answers.get(), QUIET)
                try:
                    hosts.append(_host.decode(message.data))
                except msgspec.DecodeError as error:
                    log.warning("a host's description can't be read: %s", error)
    return hosts
