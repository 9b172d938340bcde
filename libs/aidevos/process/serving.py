"""The composition root of all services except the gateway, which runs a service's process.

Promise: the process closes everything that it opened, in reverse order, even if its start or another close fails.
Resources close after the last object and the last chore.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from typing import Any

import msgspec
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from aidevos.contracts import placement_events, subjects
from aidevos.contracts.built_in import BUILT_IN
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.clock import SystemClock
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.tasks import BackgroundTasks
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import Connection, connect
from aidevos.durable.delivery.reactions import Reactions
from aidevos.durable.hosting.duties import Work
from aidevos.durable.hosting.host import VERSION, Host
from aidevos.durable.hosting.host_name import HostName
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.membership import check_forms
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.hosting.placement_events import PlacementEvents
from aidevos.durable.hosting.provision import check_mapping, read_partitions
from aidevos.durable.hosting.pulse import Pulse, StallTimer
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.objects.resources import check_needs, open_resources
from aidevos.durable.store.mongo import MongoStore
from aidevos.durable.store.port import StoreError, Unfenced
from aidevos.durable.turns.log_context import describe_turn
from aidevos.observability import logs
from aidevos.observability.health import Health
from aidevos.process.answering import Answering, nats_answering, wait_for_loss
from aidevos.process.collector import collect_in_slices, collect_rarely, keep_collecting
from aidevos.process.death_reports import reporting_deaths
from aidevos.process.incarnations import serve_incarnation
from aidevos.process.limits import limits_of
from aidevos.process.observation import observing
from aidevos.process.presence import Presence, keep_present, open_presence
from aidevos.process.probes import answering_probes
from aidevos.process.scraping import GatewayAnswers, showing_metrics
from aidevos.process.service import Service
from aidevos.process.service_work import ServiceWork
from aidevos.process.stack import AccessControl, background, open_connection, open_lease_connection
from aidevos.process.stopping import (
    LEAVE_INTERRUPTED_WITHIN,
    LEAVE_LOST_WITHIN,
    LEAVE_WITHIN,
    finish_unless,
    leave_within,
    stop_on_signals,
)
from aidevos.process.watchdog import Watchdog
from aidevos.projects.gate import ProjectGate
from aidevos.security.credentials import ServiceCredential
from aidevos.security.service_keys import VerificationKeys
from aidevos.security.tls import client_context, mongo_options
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import Settings, SettingsError, load

log = logging.getLogger(__name__)
STORE_WITHIN = 30.0
REJOIN = Backoff(0.5, 2.0)
# The types that a process injects besides those of its resources; the verifier only if it hosts objects.
PROVIDED = frozenset({Settings, Client, DurableObjectClient, EventBus, HostName, Peers, TokenVerifier})


def run(
    service: Service,
    settings: Settings | None = None,
    *,
    name: str = "",
    reports_health: bool = True,
    on_joined: Callable[[], None] = lambda: None,
) -> None:
    """Run a process of the service until SIGTERM or SIGINT, by default with the settings of its environment.

    Its log lines and traces have this name, by default that of the service. With `reports_health`, it answers for the
    health of the service. `on_joined` is called whenever it begins to serve, as one host or another. An invalid setting
    or declaration ends the process with one line and status 2.
    """
    try:
        check(service)
        settings = settings or load()
    except (SettingsError, TypeError) as error:
        raise SystemExit(_report_error(error)) from None
    logs.configure(settings, name or service.name, describe_turn)
    (collect_in_slices if service.types else collect_rarely)()
    try:
        with observing(settings, name or service.name):
            uvloop.run(_serve_and_leave(service, settings, reports_health, on_joined))
    except SettingsError as error:
        raise SystemExit(_report_error(error)) from None


async def _serve_and_leave(
    service: Service, settings: Settings, reports_health: bool, on_joined: Callable[[], None]
) -> None:
    within, status = LEAVE_INTERRUPTED_WITHIN, 2
    try:
        if await serve(service, settings, reports_health=reports_health, on_joined=on_joined, leave=leave_within):
            within = LEAVE_WITHIN
        status = 0
    finally:
        leave_within(within, status)


def check(service: Service) -> None:
    """Raise `TypeError` for a type that can't be hosted, or a need that no resource and no process provides."""
    DurableObjectRegistry(service.types)
    for cls in service.types:
        if cls.object_type == placement_events.TYPE:
            raise TypeError(f"{cls.__name__} can't have the type name {cls.object_type!r}: choose another one")
        owner = BUILT_IN.get(cls.object_type)
        # A wheel has the services under `aidevos`.
        module = cls.__module__.removeprefix("aidevos.")
        if owner is not None and not module.startswith(f"services.{owner}."):
            raise TypeError(
                f"{cls.__name__} can't have the type name {cls.object_type!r}, "
                f"because the built-in service {owner} has a type of this name: choose another one"
            )
    check_needs(service.needs(), service.resources, PROVIDED if service.types else PROVIDED - {TokenVerifier})


async def serve(
    service: Service,
    settings: Settings,
    *,
    reports_health: bool = True,
    on_joined: Callable[[], None] = lambda: None,
    leave: Callable[[float], None] = lambda seconds: None,
) -> bool:
    """Run the service until cancelled or until SIGTERM or SIGINT. Raises `SettingsError`.

    Return False if it was still starting, and may wait for a server.
    If NATS or MongoDB doesn't answer when the service should stop, nothing waits for it, and `leave` is called with the
    seconds after which the process should end.
    """
    async with AsyncExitStack() as stack:
        process = _Process(service, settings, stack, leave)
        if not await process.start():
            return False
        if service.types:
            await process.host(reports_health=reports_health, on_joined=on_joined)
        else:
            await process.stand_by(reports_health=reports_health, on_joined=on_joined)
    return True


class _Process:
    """One process of a service. `stack` closes everything that it opens."""

    def __init__(
        self, service: Service, settings: Settings, stack: AsyncExitStack, leave: Callable[[float], None]
    ) -> None:
        self._service = service
        self._settings = settings
        self._stack = stack
        self._registry = DurableObjectRegistry(service.types)
        self._credential = ServiceCredential(settings, service.name, self._registry.permissions())
        self._pulse = Pulse()
        self._watchdog = Watchdog(self._pulse, settings.stall_limit)
        self._stop = stop_on_signals(stack, self._watchdog)
        self._prepared = asyncio.Event()
        self._current: Host | None = None
        self._renewals = BackgroundTasks()
        self._duties: list[tuple[str, str, Work]] = []
        self._peers = Peers()
        self._leave = leave
        self._health = Health()
        self._health.watch("preparation", lambda: "" if self._prepared.is_set() else "it is being prepared")
        if service.types:
            # Until there is a host, which watches its own.
            self._health.watch("lease", lambda: "it has no lease")
        self._servers: list[Answering] = []
        # Set when the process should stop and a server doesn't answer.
        self._lost = asyncio.Event()
        self._since = time.time()

    async def start(self) -> bool:
        """Connect to the fleet and open everything. Return False if a signal has come before that was done."""
        await self._stack.enter_async_context(background(self._pulse.run, self._health.keep_looking, self._watch_stop))
        self._stack.enter_context(self._watchdog)
        return await finish_unless(self._stop, self._open())

    async def _open(self) -> None:
        await self._join()
        if not self._service.types:
            await self._start_work({})
            return
        self._partitions = await read_partitions(self._fleet.connection)
        await check_mapping(self._fleet.connection, self._partitions)
        await self._outlive_other_forms()
        self._store = await self._open_store()
        self._access = await self._open_access()
        await self._start_work({TokenVerifier: self._access.verifier})
        await self._stack.enter_async_context(background(partial(keep_collecting, self._count_objects)))
        self._leases = await self._stack.enter_async_context(
            open_lease_connection(
                self._settings,
                f"{self._fleet_name}-lease",
                on_disconnect=self._suspend,
                on_reconnect=self._renew,
            )
        )

    async def _join(self) -> None:
        """Connect to the fleet."""
        settings, service = self._settings, self._service
        await self._stack.enter_async_context(answering_probes(settings, self._health))
        name = HostName(settings.home, service.name, settings.replica, settings.host_name)
        self._name = self._stack.enter_context(closing(name))
        logs.set_replica(name.replica)
        self._fleet_name = f"{service.name}-{self._name.replica}"
        replica = str(self._name.replica)
        await self._stack.enter_async_context(showing_metrics(settings, service.name, replica, VERSION, self._health))
        self._fleet = await self._stack.enter_async_context(
            open_connection(settings, self._fleet_name, self._credential.authorization, types=self._registry.types)
        )
        answers = GatewayAnswers(
            self._fleet.connection,
            service.name,
            replica,
            self._health,
            host=self._name.name if service.types else "",
            find_busiest=lambda: self._current.find_busiest() if self._current is not None else [],
        )
        await answers.start()
        file = self._stack.enter_context(open_presence(settings.home, service.name))
        await self._stack.enter_async_context(background(partial(keep_present, file, self._describe)))
        await self._stack.enter_async_context(
            reporting_deaths(settings.home, service.name, self._name.replica, self._fleet.bus)
        )
        await self._watch_server(nats_answering(self._fleet.connection))

    def _describe(self) -> Presence:
        return Presence(
            service=self._service.name,
            replica=self._name.replica,
            pid=os.getpid(),
            since=self._since,
            types=sorted(self._registry.types),
            tasks=sorted(self._service.tasks),
            partitions=dict(self._current.partitions) if self._current is not None else {},
            objects=self._count_objects(),
            problems=self._health.problems(),
        )

    async def _watch_server(self, server: Answering) -> None:
        """Report whether a server answers, and let nothing wait for it once the process should stop."""
        self._servers.append(server)
        self._health.watch(server.name, server.find_problem)
        await self._stack.enter_async_context(background(server.run))

    async def _watch_stop(self) -> None:
        """Let the process leave soon if it should stop and a server doesn't answer."""
        await self._stop.wait()
        log.warning("stopping without delay: %s", await wait_for_loss(self._servers))
        self._lost.set()
        self._leave(LEAVE_LOST_WITHIN)

    async def host(self, *, reports_health: bool, on_joined: Callable[[], None]) -> None:
        """Serve the service's types, as one incarnation after another, until a signal stops the process."""
        while not self._stop.is_set():
            try:
                async with self._open_calls() as calls:
                    self._current = host = self._new_host(calls, reports_health=reports_health)
                    await serve_incarnation(host, self._stop, self._settings.drain_timeout, self._lost, on_joined)
                    if host.lease.rolled_back:
                        # Another host may still own what the servers have forgotten. It will notice within this time.
                        await finish_unless(self._stop, asyncio.sleep(self._settings.lease))
            except SettingsError as error:
                log.warning("joining the fleet failed, trying again: %s", error)
            await finish_unless(self._stop, asyncio.sleep(REJOIN.pause(1)))

    async def _outlive_other_forms(self) -> None:
        """Return once no host of the service commits in another form. Raises `SettingsError` if one lives on."""
        hosts, loop = Bucket(self._fleet.connection, subjects.HOSTS_BUCKET), asyncio.get_running_loop()
        end, pauses = loop.time() + 2 * self._settings.lease, REJOIN.pauses()
        while True:
            try:
                await check_forms(hosts, self._service.name)
                return
            except SettingsError:
                if loop.time() > end:
                    raise
            except (NatsError, OSError) as error:
                log.warning("joining the fleet failed, trying again: %r", error)
            await pauses.wait()

    async def stand_by(self, *, reports_health: bool, on_joined: Callable[[], None]) -> None:
        """Run only the chores, until a signal stops the process."""
        if reports_health:
            await self._fleet.connection.subscribe(subjects.health(self._service.name), cb=self._on_health)
        on_joined()
        await self._stop.wait()

    @asynccontextmanager
    async def _open_calls(self) -> AsyncIterator[Connection]:
        """Open a connection for the requests to one incarnation.

        However many wait in its socket, the process receives its other messages.
        """
        settings = self._settings
        calls = await connect(
            settings.nats_url,
            f"{self._fleet_name}-calls",
            tls=client_context(settings),
            on_disconnect=self._suspend,
            on_reconnect=self._renew,
        )
        try:
            yield calls
        finally:
            await calls.close()

    def _new_host(self, calls: Connection, *, reports_health: bool) -> Host:
        """Return the next incarnation of this process's host."""
        fleet, leases, clock = self._fleet, self._leases, SystemClock()
        timer, stall_limit = StallTimer(self._pulse), self._settings.stall_limit
        lease = Lease(
            leases.hosts,
            self._service.name,
            self._name.name,
            clock,
            self._settings.lease,
            run=leases.run,
            is_stalled=lambda: timer.stalled() > stall_limit,
        )
        runtime = Runtime(
            self._registry,
            self._store,
            fleet.bus,
            fleet.client,
            clock,
            ProjectGate(fleet.client),
            incarnation=lease.incarnation,
            principal=self._credential.principal,
            partitions=Partitions(self._partitions, lease.valid),
            decline=self._decline,
            limits=limits_of(self._settings, fleet.connection.max_payload),
        )
        return Host(
            runtime,
            lease,
            fleet.connection,
            calls,
            self._access.admission,
            self._access.limiter,
            service=self._service.name,
            replica=self._name.replica,
            handover_timeout=self._settings.handover_timeout,
            duties=self._duties,
            peers=self._peers,
            events=PlacementEvents(
                fleet.bus,
                service=self._service.name,
                replica=self._name.replica,
                incarnation=lease.incarnation,
                version=VERSION,
            ),
            health=self._health,
            reports_health=reports_health,
        )

    def _decline(self, type: str, partition: int) -> None:
        if self._current is not None:
            self._current.decline(type, partition)

    def _count_objects(self) -> int:
        return 0 if self._current is None else self._current.objects

    def _suspend(self) -> None:
        """Answer nothing until the lease is renewed. This may run in any thread.

        A server that was restarted may have lost the leases, but a cluster that lost one server knows them still.
        """
        if self._current is not None and self._settings.stream_replicas == 1:
            self._current.lease.suspend()

    def _renew(self) -> None:
        if self._current is not None:
            self._renewals.spawn(self._current.lease.renew())

    async def _open_store(self) -> MongoStore:
        settings = self._settings
        tls = mongo_options(settings, settings.mongo_url)
        store = MongoStore(settings.mongo_url, settings.mongo_database, tls=tls)
        self._stack.callback(store.close)
        await self._watch_server(Answering("MongoDB", store.ping, (StoreError,)))
        await _open_collections(store, self._registry)
        return store

    async def _open_access(self) -> AccessControl:
        settings = self._settings
        verifier = TokenVerifier(VerificationKeys(settings.home), settings.public_url)
        access = AccessControl(settings, self._fleet, verifier, self._credential)
        try:
            async with asyncio.timeout(STORE_WITHIN):
                await self._stack.enter_async_context(access.following())
        except TimeoutError:
            raise SettingsError(
                f"the event stream could not be read within {STORE_WITHIN:.0f} s at AIDEVOS_EVENT_BUS_URL, "
                "or at AIDEVOS_NATS_URL if that is not set"
            ) from None
        return access

    async def _start_work(self, provided: Mapping[Any, Any]) -> None:
        fleet = self._fleet
        provided = {
            Settings: self._settings,
            Client: fleet.connection,
            DurableObjectClient: fleet.client,
            EventBus: fleet.bus,
            HostName: self._name,
            Peers: self._peers,
            **provided,
        }
        resources = await self._stack.enter_async_context(open_resources(self._service.resources, provided))
        self._registry.bind(self._service.types, resources)
        work = ServiceWork(self._service, resources)
        await self._stack.enter_async_context(background(partial(work.prepare, self._prepared)))
        if not self._service.types:
            await self._stack.enter_async_context(background(*work.chores))
            return
        reactions = Reactions(
            self._registry, fleet.bus, fleet.client, SystemClock(), attempts=self._settings.event_attempts
        )
        self._duties = [*work.duties(), *reactions.works()]

    async def _on_health(self, message: Msg) -> None:
        report = self._health.report(self._service.name, self._name.replica)
        await self._fleet.connection.publish(message.reply, msgspec.json.encode(report))


async def _open_collections(store: MongoStore, registry: DurableObjectRegistry) -> None:
    loop = asyncio.get_running_loop()
    end, pauses = loop.time() + STORE_WITHIN, REJOIN.pauses()
    while True:
        try:
            for name, type in registry.types.items():
                searched = [index for search in type.cls.searches for index in search.indexes]
                kept = type.cls.kept_versions is not None
                await store.open(name, [*searched, *type.cls.indexes], type.cls.sparse_indexes, history=kept)
        except StoreError as error:
            if isinstance(error, Unfenced) or loop.time() > end:
                raise SettingsError(f"AIDEVOS_MONGO_URL: {error}") from None
            await pauses.wait()
        else:
            return


def _report_error(error: Exception) -> int:
    print(f"aidevos: {error}", file=sys.stderr)
    return 2
