"""The parts that every process of a fleet has: its connection, client, event bus and access control.

Promise: everything that was opened is closed in reverse order, even if opening or closing another part fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import uvloop

from aidevos.contracts import subjects
from aidevos.contracts.built_in import BUILT_IN
from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.revocations import HISTORY, Revocations
from aidevos.durable.base.loop_thread import LoopThread
from aidevos.durable.base.tasks import cancel_and_wait, restart_on_failure
from aidevos.durable.bus.factory import open_bus
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import Connection, connect
from aidevos.durable.client.mirror import Mirror
from aidevos.durable.client.types import TypeDirectory
from aidevos.security.credentials import ServiceCredential
from aidevos.security.tls import client_context
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings

log = logging.getLogger(__name__)


class FleetConnection(NamedTuple):
    """A process's connection to NATS, and its client and event bus."""

    connection: Connection
    client: DurableObjectClient
    bus: EventBus


@asynccontextmanager
async def open_connection(
    settings: Settings,
    name: str,
    authorization: Callable[[], str],
    *,
    types: Collection[str] = (),
) -> AsyncIterator[FleetConnection]:
    """Connect to the fleet. `authorization` returns the client's default credential. Raises `SettingsError`.

    Of the types that no host has announced yet, only the built-in ones and these `types` may soon be served.
    """
    async with AsyncExitStack() as stack:
        connection = await connect(settings.nats_url, name, tls=client_context(settings))
        stack.push_async_callback(connection.close)
        client = DurableObjectClient(
            connection,
            authorization,
            attempt_timeout=settings.attempt_timeout,
            default_deadline=settings.default_deadline,
            types=TypeDirectory(connection, {*BUILT_IN, *types}),
        )
        await client.start()
        bus = await open_bus(settings, connection, FLEET_EVENTS)
        stack.push_async_callback(bus.close)
        yield FleetConnection(connection, client, bus)


class LeaseConnection(NamedTuple):
    """The bucket of the hosts' leases, and what runs a coroutine in the thread to which the bucket belongs."""

    hosts: Bucket
    run: Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]


@asynccontextmanager
async def open_lease_connection(
    settings: Settings, name: str, *, on_disconnect: Callable[[], None], on_reconnect: Callable[[], None]
) -> AsyncIterator[LeaseConnection]:
    """Connect to the leases from a thread of their own, in which `on_disconnect` runs. Raises `SettingsError`."""
    loop, thread = asyncio.get_running_loop(), LoopThread("lease", uvloop.new_event_loop)
    async with AsyncExitStack() as stack:
        stack.callback(thread.close)
        connection = await thread.run(
            connect(
                settings.nats_url,
                name,
                tls=client_context(settings),
                on_disconnect=on_disconnect,
                on_reconnect=lambda: _call_in(loop, on_reconnect),
            )
        )
        stack.push_async_callback(lambda: thread.run(connection.close()))
        yield LeaseConnection(Bucket(connection, subjects.HOSTS_BUCKET), thread.run)


class AccessControl:
    """Authenticates callers and limits their rates. `credential` authorizes the look-ups for this."""

    def __init__(
        self, settings: Settings, fleet: FleetConnection, verifier: TokenVerifier, credential: ServiceCredential
    ) -> None:
        self.verifier = verifier
        self._credential = credential
        authorization = credential.authorization
        self.admission = Admission(verifier, fleet.client, authorization)
        self.limiter = RateLimiter(settings, fleet.client, authorization)
        self.events = EventStream(fleet.bus, since=HISTORY)
        self.events.on_gap(self._forget_before)
        self._revocations = Revocations(
            self.events, verifier, fleet.client, authorization, self.admission.invalidate, self.limiter.set_policies
        )

    def _forget_before(self, known_since: float) -> None:
        """Trust nothing that a lost event may have revoked before this time, in seconds since the epoch."""
        if self.verifier.forget_before(known_since):
            log.info("events from before %s may be lost: tokens are looked up", rfc3339(timestamp(known_since)))
            self.admission.forget_all()
            self._credential.renew()

    @asynccontextmanager
    async def following(self, *mirrors: Mirror) -> AsyncIterator[None]:
        """Follow revocations, and the events of these mirrors, while the block runs.

        The block begins once every revocation that was known at the start has been read.
        """
        works = [mirror.follow for mirror in mirrors]
        works += [self.events.follow, self._revocations.follow, self.admission.report_usage]
        async with background(*works):
            await self._revocations.wait_until_loaded()
            yield


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)


@asynccontextmanager
async def background(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run these works while the block runs, and cancel them at its end. One that fails is logged and restarted."""
    tasks = [asyncio.ensure_future(restart_on_failure(work)) for work in works]
    try:
        yield
    finally:
        await cancel_and_wait(tasks)
