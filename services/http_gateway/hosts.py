"""The hosts of the fleet, which the gateway asks all at once.

Promise: the answer comes as soon as all hosts that hold leases have answered. Only a host that stays silent is waited
for until the time is up.
"""

from __future__ import annotations

import logging

import msgspec
from nats.aio.client import Client

from aidevos.contracts import subjects
from aidevos.contracts.fleet import FleetHosts, HostInfo

from .survey import QUIET, SETTLED, ask_all, find_hosts

log = logging.getLogger(__name__)
_host = msgspec.json.Decoder(HostInfo)


class Hosts:
    """Asks the hosts over one connection."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def find(self) -> FleetHosts:
        """Return the descriptions of all hosts that answer in time. Raises `unavailable` without NATS."""
        silent = await find_hosts(self._connection)
        hosts: list[HostInfo] = []

        def receive(answer: bytes) -> None:
            try:
                hosts.append(_host.decode(answer))
            except msgspec.DecodeError as error:
                log.warning("a host's description can't be read: %s", error)
            else:
                silent.discard(hosts[-1].incarnation)

        pause = SETTLED if silent else QUIET
        await ask_all(self._connection, subjects.FLEET, receive, is_complete=lambda: not silent, pause=pause)
        return FleetHosts(sorted(hosts, key=lambda host: (host.service, host.replica, host.since)))
