"""A steady load on counters, registers, tells and alarms, whose histories are checked in the end.

Requests begin at a steady rate, however long the others take. So those that meet a fault are as many as in real life.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aidevos import DurableObjectClient
from aidevos.contracts import envelope, subjects
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.connection import connect
from aidevos.testing import Operation, Refusal, Unknown
from tests.support.campaign.clients import NatsClient
from tests.support.host_processes import eventually
from tests.support.kits import repeats
from tests.support.many_hosts import Place
from tests.support.servers import Servers
from tests.support.workloads import Alarms, Client, Counters, Registers, Tells, Workloads

# Requests per second, the clients that they come from, and objects of each kind.
RATE, CLIENTS, OBJECTS = min(150, 2 * repeats(150)), 16, 48


class Request(NamedTuple):
    """A request, with its times on the clock `time.monotonic`. `failed` is an error code, or empty."""

    place: Place
    begun: float
    ended: float
    failed: str = ""

    @property
    def latency(self) -> float:
        return self.ended - self.begun


class Load:
    """The load of one round."""

    def __init__(self, client: NatsClient, random: random.Random) -> None:
        self._workloads = Workloads(random, time.monotonic, OBJECTS, (Counters, Registers, Tells, Alarms))
        self._clients = [Client(f"client{number}", client.call, client.tell) for number in range(CLIENTS)]
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._ended = asyncio.Event()

    @property
    def requests(self) -> list[Request]:
        """All requests that are answered or given up."""
        return [_request(each) for each in self._workloads.history if not each.object.startswith("tell.")]

    async def end(self, within: float) -> None:
        """Send nothing more, and wait until everything is answered and has arrived."""
        self._stopped = True
        await self._ended.wait()

        async def has_arrived() -> bool:
            return not await self._workloads.find_missing(self._clients[0])

        await eventually(has_arrived, within)

    async def run(self) -> None:
        """Send until stopped, and return when everything is answered."""
        begun, count = time.monotonic(), 0
        while not self._stopped:
            task = asyncio.create_task(self._workloads.step(self._clients[count % CLIENTS]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            count += 1
            await asyncio.sleep(begun + count / RATE - time.monotonic())
        await asyncio.gather(*self._running)
        self._ended.set()

    async def find_faults(self) -> list[str]:
        """Return what contradicts the promises of the product, once everything that was told has arrived."""
        return await self._workloads.find_violations(self._clients[0])


def _request(operation: Operation) -> Request:
    type, _, id = operation.object.partition(":")
    outcome = operation.outcome
    failed = outcome.code if isinstance(outcome, Refusal | Unknown) else ""
    return Request((type, subjects.partition(type, id)), operation.called, operation.returned, failed)


@asynccontextmanager
async def steady_load(servers: Servers, random: random.Random) -> AsyncIterator[Load]:
    """Put hosts under load until the caller ends it."""
    authorization = "Bearer " + servers.issuer().issue("tester", roles=("admin",))
    connections = [await connect(servers.nats_url(user), "load") for user in ("gateway", "events")]
    caller = DurableObjectClient(connections[0], lambda: authorization)
    await caller.start()
    client = NatsClient(caller, connections[1].jetstream(), {envelope.AUTHORIZATION: authorization})
    load = Load(client, random)
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        await cancel_and_wait([running])
        for connection in connections:
            await connection.close()
