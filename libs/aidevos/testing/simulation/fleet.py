"""The processes of a simulated fleet: hosts that serve types, and clients that call them.

A host is put together as a process of a service is, from the same parts. Only its credentials are simpler: the
`Authorization` header is the caller's name.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from typing import Any

from aidevos.contracts import subjects
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.types import TypeDirectory
from aidevos.durable.hosting.host import VERSION, Host
from aidevos.durable.hosting.lease import Lease
from aidevos.durable.hosting.peers import Peers
from aidevos.durable.hosting.placement_events import PlacementEvents
from aidevos.durable.hosting.provision import bucket_stream, events_stream, tells_stream
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.objects.resources import Resources
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Limits
from aidevos.process.incarnations import serve_incarnation
from aidevos.projects.gate import ProjectGate
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing.simulation.connection import MAX_PAYLOAD, SimulatedConnection
from aidevos.testing.simulation.determinism import WallClock
from aidevos.testing.simulation.loop import Process, VirtualLoop
from aidevos.testing.simulation.nats_server import NatsServer
from aidevos.testing.simulation.network import Latency
from aidevos.testing.simulation.store import Disk, SimulatedStore

SERVICE = "objects"
INBOX = "_INBOX_objects"
SERVICE_CREDENTIAL = "service"
PRINCIPAL = Principal(f"service:{SERVICE}", ("service",), frozenset({"*"}))
LEASE = 3
HANDOVER, DRAIN = 5.0, 15.0
REJOIN = Backoff(0.5, 2.0)


class Fleet:
    """The servers of a simulated fleet, and everything that its processes share."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        types: Sequence[type[BaseDurableObject[Any]]],
        partitions: int,
        settings: Settings,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.loop = loop
        self.rng = rng
        self.partitions = partitions
        self.clock = WallClock(loop)
        self.latency = Latency(rng)
        self.nats = NatsServer(loop, rng, self.latency, partitions, self.clock.now)
        self.disk = Disk(loop, rng, Latency(rng, 0.002))
        self.registry = _registry_of(tuple(types))
        for name in self.registry.types:
            self.disk.run(self.disk.memory.open(name))
        self.nats.jetstream.add_stream(events_stream(settings).as_dict())
        self.nats.jetstream.add_stream(tells_stream(settings, MAX_PAYLOAD).as_dict())
        for bucket in (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET):
            self.nats.jetstream.add_stream(bucket_stream(bucket, 1).as_dict())


@lru_cache(maxsize=100)
def _registry_of(types: tuple[type[BaseDurableObject[Any]], ...]) -> DurableObjectRegistry:
    """Return the registry of some classes, which all runs share."""
    registry = DurableObjectRegistry(types)
    registry.bind(types, Resources({Peers: Peers()}))
    return registry


class Node:
    """A simulated machine with one process at a time. `name` is permanent; its processes are numbered."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.name = name
        self.clock = WallClock(fleet.loop)
        self.nats_reachable = self.store_reachable = True
        self.connections: list[SimulatedConnection] = []
        # How often a process is held up between two callbacks, and for how long.
        self.stalls = 0.0
        self.stalled_for: Callable[[], float] = lambda: 0.0
        self._fleet = fleet
        self._starts = 0
        self.process: Process | None = None

    @property
    def running(self) -> bool:
        """True if there is a process that was not killed."""
        return self.process is not None and self.process.alive

    def start_process(self) -> Process:
        """Start a process on this machine, which does nothing yet."""
        self._starts += 1
        process = self.process = self._fleet.loop.process(f"{self.name}.{self._starts}")
        process.stalls, process.stalled_for = self.stalls, self.stalled_for
        self.connections = []
        return process

    def kill(self, *, server_notices_after: float) -> None:
        """Kill the process. The server notices when its connections end, which may be later."""
        if self.process is not None:
            self.process.kill()
        for connection in self.connections:
            connection.reset(server_notices_after=server_notices_after)

    async def connect(self, **options: Any) -> SimulatedConnection:
        """Connect the current process, in which this must run."""
        process = self.process or self.start_process()
        connection = SimulatedConnection(
            self._fleet.nats, process, inbox=INBOX, reachable=lambda: self.nats_reachable, **options
        )
        self.connections.append(connection)
        await connection.open()
        return connection

    async def open_client(self, connection: SimulatedConnection, credential: str) -> DurableObjectClient:
        """Return a client that calls with a credential."""
        types = TypeDirectory(connection, self._fleet.registry.types, self.clock.now)
        client = DurableObjectClient(connection, lambda: credential, types=types, now=self.clock.now)
        await client.start()
        return client


class HostNode(Node):
    """A machine with a host process, which serves as one incarnation after another."""

    def __init__(self, fleet: Fleet, replica: int) -> None:
        super().__init__(fleet, f"host-{replica}")
        self.replica = replica
        self.host: Host | None = None
        self.store: SimulatedStore | None = None
        # Called when its process has connected again.
        self.on_reconnect: Callable[[], None] = lambda: None
        self._runtime: Runtime | None = None
        self._stop: asyncio.Event | None = None
        # True from when the process was asked to leave until the next one starts.
        self.leaving = False

    def start(self) -> None:
        """Start the process."""
        self.host = self._stop = None
        self.leaving = False
        process = self.start_process()
        process.start(self._run(process))

    def stop(self) -> None:
        """Ask the process to leave in order."""
        if self.process is not None and self._stop is not None:
            self.leaving = True
            self.process.call(self._stop.set)

    def owned(self) -> list[Activation]:
        """Return the objects in memory that this host may answer for, and that have nothing left to commit."""
        if self._runtime is None:
            return []
        owns = self._runtime.environment.owns
        return [each for each in self._runtime.catalogue.all() if each.claimed and each.idle and owns(each)]

    async def _run(self, process: Process) -> None:
        stop = self._stop = asyncio.Event()
        store = self.store = SimulatedStore(self._fleet.disk, process, lambda: self.store_reachable)
        connection = await self.connect()
        client = await self.open_client(connection, SERVICE_CREDENTIAL)
        bus = JetStreamBus(connection)
        current: list[Host] = []

        def suspend() -> None:
            for host in current:
                host.lease.suspend()

        def renew() -> None:
            self.on_reconnect()
            for host in current:
                process.start(host.lease.renew())

        leases = await self.connect(on_disconnect=suspend, on_reconnect=renew)
        while not stop.is_set():
            calls = await self.connect(on_disconnect=suspend, on_reconnect=renew)
            host = self.host = self._assemble(connection, calls, leases, client, bus, store)
            current[:] = [host]
            await serve_incarnation(host, stop, DRAIN)
            if host.lease.rolled_back:
                await asyncio.sleep(LEASE)
            await calls.close()
            self.connections.remove(calls)
            if not stop.is_set():
                await asyncio.sleep(REJOIN.pause(1))
        current.clear()
        for each in self.connections:
            await each.close()
        process.alive = False

    def _assemble(
        self,
        connection: SimulatedConnection,
        calls: SimulatedConnection,
        leases: SimulatedConnection,
        client: DurableObjectClient,
        bus: JetStreamBus,
        store: SimulatedStore,
    ) -> Host:
        lease = Lease(
            Bucket(leases, subjects.HOSTS_BUCKET),
            SERVICE,
            self.name,
            self.clock,
            LEASE,
            run=_run_here,
            is_stalled=lambda: False,
        )
        runtime = self._runtime = Runtime(
            self._fleet.registry,
            store,
            bus,
            client,
            self.clock,
            ProjectGate(client),
            incarnation=lease.incarnation,
            principal=PRINCIPAL,
            partitions=Partitions(self._fleet.partitions, lease.valid),
            limits=self._fleet.limits,
        )
        return Host(
            runtime,
            lease,
            connection,
            calls,
            _Admission(),  # type: ignore[arg-type]
            _NoLimits(),  # type: ignore[arg-type]
            service=SERVICE,
            replica=self.replica,
            handover_timeout=HANDOVER,
            peers=Peers(),
            events=PlacementEvents(
                bus,
                service=SERVICE,
                replica=self.replica,
                incarnation=lease.incarnation,
                version=VERSION,
                now=self.clock.now,
            ),
            reports_health=False,
        )


class _Admission:
    """Authenticates callers by the name that they give."""

    def __init__(self) -> None:
        self._known = {SERVICE_CREDENTIAL: PRINCIPAL}

    def authenticate(self, authorization: str | None, address: str) -> Principal:
        name = authorization or "anonymous"
        if name not in self._known:
            self._known[name] = Principal(name, ("admin",), frozenset({"*"}))
        return self._known[name]

    async def admit_stored(self, authorization: str | None, at: float) -> Principal:
        return self.authenticate(authorization, "")


class _NoLimits:
    """Spends nothing."""

    def spend(self, *_: object) -> None: ...

    def price_page(self, items: int) -> int:
        return 1


async def _run_here(work: Coroutine[Any, Any, None]) -> None:
    """Run what a process runs in the thread of its lease."""
    await work
