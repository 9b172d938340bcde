"""A simulated run: a fleet, its clients and its faults, and what must hold when all of them are over.

First the fleet starts and the workload prepares its objects. Then clients take their steps while faults strike. Then
everything heals, and the run waits until nothing is on its way. At last every object is read, all hosts leave in order,
and what they have left behind is checked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from nats.errors import Error as NatsError

from aidevos.contracts import dead_letters, envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import BusError, Delivery
from aidevos.durable.client.client import failure_of
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.turns.environment import Limits
from aidevos.settings import load
from aidevos.testing.history import Operation
from aidevos.testing.simulation.determinism import EPOCH, deterministic, discard
from aidevos.testing.simulation.faults import Fault, Faults
from aidevos.testing.simulation.fleet import Fleet, HostNode, Node
from aidevos.testing.simulation.loop import Stuck, VirtualLoop, new_loop
from aidevos.testing.simulation.pace import Pace
from aidevos.testing.simulation.plan import HOSTS, Plan
from aidevos.testing.simulation.releases import Releases
from aidevos.testing.simulation.streams import Stored

# Few, so that a fleet starts fast.
PARTITIONS = (1, 2, 4)
DEADLINES = (2.0, 5.0, 10.0)
# Virtual seconds after the last fault within which everything must be done.
QUIET_WITHIN = 100.0
LEAVES_WITHIN = 30.0
LOOK_EVERY = 0.5
# Objects leave memory after so many seconds without a request. A sweep follows within about a second.
IDLE = (0.5, 2.0, 300.0)
# Soon, so that turns of resting objects are frequent.
REST_AFTER = 0.1
SOON_IDLE, LEAVES_MEMORY = 2.0, 1.5
STARTS_WITHIN = 30.0
STORES_WITHIN, ONCE_WITHIN = 5.0, 2.0


class SimulatedClient(NamedTuple):
    """A client as a script sees it. All calls raise `Failure`.

    `once` sends a request a single time, and without a request ID, as any NATS client may.
    """

    name: str
    call: Callable[..., Any]
    tell: Callable[..., Any]
    once: Callable[..., Any]


class Script(Protocol):
    """The steps of clients that use objects of some classes, and what must hold of them."""

    @property
    def classes(self) -> Sequence[type[BaseDurableObject[Any]]]: ...

    @property
    def events(self) -> Sequence[str]:
        """The patterns of the events that it wants to see."""
        ...

    @property
    def history(self) -> list[Operation]:
        """All operations so far."""
        ...

    def on_commit(self, type: str, id: str, document: dict[str, Any]) -> None:
        """Note a document that was just committed."""

    async def prepare(self, client: SimulatedClient) -> None:
        """Do what the objects need before any fault."""

    async def step(self, client: SimulatedClient, choice: int) -> None:
        """Do one operation, which the number chooses."""

    def see(self, event: Delivery) -> None:
        """Note an event, which arrived in the order of its object, perhaps again."""

    async def find_missing(self, client: SimulatedClient) -> list[str]:
        """Return what is on its way. Raises `Failure` while an object doesn't answer."""
        ...

    async def find_violations(self, client: SimulatedClient) -> list[str]:
        """Return what is wrong. Raises `Failure` if an object doesn't answer."""
        ...


class Scenario(Protocol):
    """Makes the script of a run. `rng` is always the same for one seed, and `now` the run's time."""

    def script(self, rng: random.Random, now: Callable[[], float]) -> Script: ...


class Result(NamedTuple):
    """The outcome of a run. Equal plans give equal results, down to the trace."""

    plan: Plan
    violations: list[str]
    history: list[Operation]
    struck: list[Fault]
    trace: int
    seconds: float


def run(plan: Plan, scenario: Scenario, *, quiet: bool = True) -> Result:
    """Run a plan. With `quiet`, nothing is logged."""
    rng = random.Random(plan.seed)  # noqa: S311
    loop = new_loop(rng)
    with deterministic(loop, rng, quiet=quiet):
        world = _World(plan, scenario, loop, rng)
        try:
            loop.run_until_complete(world.run())
        except Stuck as stuck:
            world.violations.append(f"the run is stuck {stuck}")
        except Failure as failure:
            world.violations.append(f"an object doesn't answer: {failure.code}: {failure.detail}")
        world.violations += [f"unhandled: {each['message']}: {each.get('exception')!r}" for each in loop.failures]
        result = Result(plan, world.violations, world.script.history, world.faults.struck, loop.trace, loop.now)
        discard(loop, world)
    return result


class _World:
    def __init__(self, plan: Plan, scenario: Scenario, loop: VirtualLoop, rng: random.Random) -> None:
        self.violations: list[str] = []
        self._plan = plan
        self._loop = loop
        self._rng = rng
        self.script = scenario.script(random.Random(plan.seed), loop.time)  # noqa: S311
        limits = Limits(idle_after=rng.choice(IDLE), rest_after=REST_AFTER)
        self._fleet = Fleet(loop, rng, self.script.classes, rng.choice(PARTITIONS), load(), limits)
        self._fleet.disk.on_commit = self.script.on_commit
        self._hosts = [HostNode(self._fleet, number) for number in range(HOSTS)]
        self._clients = [Node(self._fleet, f"client-{number}") for number in range(plan.clients)]
        self._judge = Node(self._fleet, "judge")
        self._pace = Pace(loop, rng)
        self.faults = Faults(self._fleet, self._hosts, self._clients, self._pace.hurry)
        self._watch()

    def _watch(self) -> None:
        """Let clients hurry when a partition is claimed or released or a host reconnects, and check what is stored."""
        streams = self._fleet.nats.jetstream.streams
        releases = Releases(self._fleet.partitions)

        def on_placement(entry: Stored) -> None:
            releases.note(entry)
            self._pace.hurry()

        streams[f"KV_{subjects.PLACEMENT_BUCKET}"].on_stored[self] = on_placement
        self._fleet.disk.is_released = releases.has
        for host in self._hosts:
            host.on_reconnect = self._pace.hurry
        self._fleet.disk.is_published = streams[subjects.EVENTS_STREAM].has

    async def run(self) -> None:
        for host in self._hosts:
            host.start()
        process = self._judge.start_process()
        judge = await process.start(self._open(self._judge, (STARTS_WITHIN,)))
        await process.start(self.script.prepare(judge))
        if self.script.events:
            process.start(self._follow(self.script.events))
        for host in self._hosts:
            self._let_stall(host)
        self.faults.schedule(list(self._plan.faults))
        await asyncio.gather(*(self._start_client(number, node) for number, node in enumerate(self._clients)))
        self.faults.heal()
        await process.start(self._finish(judge))
        await self._leave()

    def _let_stall(self, host: HostNode) -> None:
        """Hold up a host's processes between two callbacks now and then, mostly for a moment."""
        rng = self._rng
        host.stalls, host.stalled_for = self._plan.stalls, lambda: rng.expovariate(rng.choice((1000.0, 100.0, 10.0)))
        if host.process is not None:
            host.process.stalls, host.process.stalled_for = host.stalls, host.stalled_for

    async def _open(self, node: Node, deadlines: Sequence[float] = DEADLINES) -> SimulatedClient:
        """Connect the process of a client, whose calls have one of these deadlines."""
        connection = await node.connect()
        client = await node.open_client(connection, node.name)
        js = connection.jetstream(timeout=STORES_WITHIN)

        async def call(type: str, id: str, method: str, /, **args: Any) -> Any:
            return await getattr(client.object(type, id, deadline=self._rng.choice(deadlines)), method)(**args)

        async def tell(type: str, id: str, method: str, arguments: Mapping[str, Any], message_id: str) -> None:
            headers = {envelope.AUTHORIZATION: node.name, "Nats-Msg-Id": message_id}
            try:
                await js.publish(subjects.tell(type, id, method), msgspec.json.encode(arguments), headers=headers)
            except NatsError as error:
                raise Failure("unavailable", f"the tell may not be stored: {error!r}") from error

        async def once(type: str, id: str, method: str, arguments: Mapping[str, Any]) -> Any:
            payload, headers = msgspec.json.encode(arguments), {envelope.AUTHORIZATION: node.name}
            try:
                reply = await connection.request(subjects.call(type, id, method), payload, ONCE_WITHIN, headers=headers)
            except NatsError as error:
                raise Failure("unavailable", f"no answer: {error!r}") from error
            failure = failure_of(reply)
            if failure and failure.code == "moved" and reply.subject in self._fleet.nats.taken_twice:
                raise Failure("unavailable", "another host has taken the request too, and may answer later")
            if failure:
                raise failure
            return msgspec.json.decode(reply.data)

        return SimulatedClient(node.name, call, tell, once)

    def _start_client(self, number: int, node: Node) -> asyncio.Task[None]:
        async def run() -> None:
            client = await self._open(node)
            for step in self._plan.steps:
                if step.client == number:
                    await self._pace.wait(step.pause)
                    await self.script.step(client, step.choice)

        return node.start_process().start(run())

    async def _follow(self, patterns: Sequence[str]) -> None:
        """Show all events to the script, as a follower that goes on where it was."""
        bus, position = JetStreamBus(await self._judge.connect()), ""
        while True:
            try:
                since = None if position else EPOCH
                async for delivery in bus.follow(patterns, since=since, after=position):
                    if delivery is not None:
                        position = delivery.position
                        self.script.see(delivery)
            except BusError:
                await asyncio.sleep(LOOK_EVERY)

    async def _finish(self, judge: SimulatedClient) -> None:
        """Wait until nothing is on its way, and note what is wrong."""
        end = self._loop.now + QUIET_WITHIN
        while missing := await self._find_missing(judge):
            if self._loop.now > end:
                self.violations += [f"still missing after {QUIET_WITHIN:.0f} s: {each}" for each in missing]
                return
            await asyncio.sleep(LOOK_EVERY)
        # Now the last reads of some objects come from the store.
        await asyncio.sleep(min(self._fleet.limits.idle_after, SOON_IDLE) + LEAVES_MEMORY)
        self.violations += await self.script.find_violations(judge)
        self.violations += [*dict.fromkeys(self._fleet.disk.violations), *self._find_differences()]
        letters = self._fleet.disk.memory.documents.get(dead_letters.TYPE, {})
        self.violations += [f"a dead letter: {each['state']}" for each in letters.values() if each.get("state")]

    async def _find_missing(self, judge: SimulatedClient) -> list[str]:
        documents = self._fleet.disk.memory.documents
        unsent = [
            f"outbox of {type}:{id}: {document['outbox']}"
            for type, found in documents.items()
            for id, document in found.items()
            if document.get("outbox")
        ]
        unsent += [f"{host.name}, which has left" for host in self._hosts if host.leaving or not host.running]
        unsent += [f"a live owner of {each.subject}" for each in self._partition_keys() if not self._has_owner(each)]
        tells = self._fleet.nats.jetstream.streams[subjects.TELLS_STREAM].messages.values()
        try:
            return unsent + [f"the tell {each.subject}" for each in tells] + await self.script.find_missing(judge)
        except Failure as failure:
            return [f"an answer: {failure.code}: {failure.detail}"]

    def _find_differences(self) -> list[str]:
        """Return the objects of which an owner has another state in memory than the store."""
        documents, found = self._fleet.disk.memory.documents, []
        for host in self._hosts:
            for each in host.owned() if host.running else ():
                stored = documents[each.type.name].get(each.id, {})
                if (stored.get("commit"), stored.get("version", 0)) != (each.commit, each.version):
                    found.append(f"{host.name} has a state of {each.object_id} that isn't stored")
        return found

    async def _leave(self) -> None:
        """Let all hosts leave in order, and note what is left.

        One that has only now noticed that a bucket has lost entries comes back first, to claim what names it.
        """
        for _ in range(int(QUIET_WITHIN / LOOK_EVERY)):
            if not all(map(self._has_owner, self._partition_keys())):
                await asyncio.sleep(LOOK_EVERY)
        for host in self._hosts:
            host.stop()
        for _ in range(int(LEAVES_WITHIN / LOOK_EVERY)):
            if any(host.running for host in self._hosts):
                await asyncio.sleep(LOOK_EVERY)
        self.violations += [f"{host.name} doesn't leave" for host in self._hosts if host.running]
        self.violations += [f"{each.subject} was not released" for each in self._partition_keys() if each.data]

    def _partition_keys(self) -> list[Stored]:
        """Return the entries of the bucket of partitions, each of which names an owner or is deleted."""
        entries = self._fleet.nats.jetstream.streams[f"KV_{subjects.PLACEMENT_BUCKET}"].messages.values()
        return [each for each in entries if each.subject.rpartition(".")[2].isdigit()]

    def _has_owner(self, entry: Stored) -> bool:
        leases = [host.host.lease for host in self._hosts if host.running and host.host is not None]
        return any(lease.valid() and lease.incarnation == entry.data.decode() for lease in leases)
