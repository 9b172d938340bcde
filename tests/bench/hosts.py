"""Measures the CPU time that a request costs if one host serves a type, and if four do, under the same load.

Two fleets with servers of their own stand side by side. They are loaded in turn, so the pace of the machine changes
for both alike, and neither pays for the other. The load is far below what one host can take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import NamedTuple

import msgspec
import psutil
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout

from aidevos.contracts import subjects
from aidevos.contracts.fleet import HostInfo
from aidevos.durable.client.connection import connect
from tests.bench.cases import OBJECTS
from tests.bench.comparison import Compared
from tests.bench.load import Load, Order, Sample
from tests.bench.processes import ProductionServers, start
from tests.support.programs import Process
from tests.support.servers import Servers

HOSTS = 4
# Requests per second.
RATE = 500.0
# Of each measurement: several scans of outboxes and alarms fall into it.
SECONDS = 10.0
# A machine that is too slow for this rate is asked for less.
IN_FLIGHT = 64
# Seconds in which the objects are created.
FILL_FOR = 4.0
TARGETS = {"query": 1.1, "command": 1.25}
METHODS = {"query": "value", "command": "increment"}
DATABASE = "hosts"
# Every host reads roles and rate limits from services that need these. They are not counted.
OTHERS = ("api_gateway", "authentication", "user_management")
START_WITHIN = 60.0
CLIENT = "client"


class Spent(msgspec.Struct):
    """CPU seconds by kind of process, which went `by` requests or seconds."""

    cpu: dict[str, float]
    by: float

    @property
    def cost(self) -> float:
        """The cost of all processes except the client, in microseconds per request or second."""
        return sum(self.cost_of(kind) for kind in self.cpu if kind != CLIENT)

    def cost_of(self, kind: str) -> float:
        return 1e6 * self.cpu[kind] / self.by


class Fleet(NamedTuple):
    """The processes of a fleet by kind, with the URL and the credentials of its clients."""

    processes: dict[str, list[psutil.Process]]
    url: str
    authorization: str

    def order(self, method: str, seconds: float) -> Order:
        ids = [f"c{number}" for number in range(OBJECTS)]
        return Order(
            kind="nats",
            in_flight=IN_FLIGHT,
            seconds=seconds,
            rate=RATE,
            url=self.url,
            authorization=self.authorization,
            method=method,
            ids=ids,
        )

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each kind of process has used."""
        return {name: sum(map(_cpu, processes)) for name, processes in self.processes.items()}


def measure(rounds: int, say: Callable[[str], None]) -> list[Compared]:
    with ExitStack() as stack:
        load = stack.enter_context(closing(Load()))
        fleets = {hosts: stack.enter_context(_fleet(hosts)) for hosts in (1, HOSTS)}
        for fleet in fleets.values():
            load.run(msgspec.structs.replace(fleet.order("increment", FILL_FOR), rate=0.0))
        found: dict[str, dict[int, list[Spent]]] = {name: {hosts: [] for hosts in fleets} for name in METHODS}
        for turn in range(rounds):
            for name, method in METHODS.items():
                for hosts, fleet in list(fleets.items())[:: 1 if turn % 2 == 0 else -1]:
                    say(f"round {turn + 1} of {rounds}: {name} with {hosts} hosts")
                    found[name][hosts].append(_spend(fleet, load, method))
        say("idle hosts")
        idle = _idle(fleets)
    return [
        *(each for name, spent in found.items() for each in rows(f"NATS {name}", spent, TARGETS[name])),
        *rows("idle, per second", {hosts: [spent] for hosts, spent in idle.items()}, None),
    ]


def rows(name: str, spent: Mapping[int, Sequence[Spent]], at_most: float | None) -> list[Compared]:
    """Return the comparison of what requests or seconds cost, followed by one for each kind of process."""

    def row(part: str, cost: Callable[[Spent], float], limit: float | None = None) -> Compared:
        many, one = ([Sample(0.0, cost(each), cost(each)) for each in spent[hosts]] for hosts in (HOSTS, 1))
        return Compared(f"{name}, {HOSTS} hosts{part}", "1 host", "p99", many, one, None, limit, "µs CPU")

    parts = [row(_label(kind), partial(Spent.cost_of, kind=kind)) for kind in spent[1][0].cpu]
    return [row("", lambda each: each.cost, at_most), *parts]


def _label(kind: str) -> str:
    return f": {kind}{' (not counted)' if kind == CLIENT else ''}"


def _spend(fleet: Fleet, load: Load, method: str) -> Spent:
    client = psutil.Process(load.pid)
    before = {**fleet.cpu(), CLIENT: _cpu(client)}
    sample = load.run(fleet.order(method, SECONDS))
    after = {**fleet.cpu(), CLIENT: _cpu(client)}
    return Spent({name: spent - before[name] for name, spent in after.items()}, sample.count)


def _idle(fleets: Mapping[int, Fleet]) -> dict[int, Spent]:
    """Return what each fleet costs per second while nothing is asked of it."""
    before, began = {hosts: fleet.cpu() for hosts, fleet in fleets.items()}, time.monotonic()
    time.sleep(SECONDS)
    seconds = time.monotonic() - began
    return {
        hosts: Spent({name: spent - before[hosts][name] for name, spent in fleet.cpu().items()}, seconds)
        for hosts, fleet in fleets.items()
    }


@contextmanager
def _fleet(hosts: int) -> Iterator[Fleet]:
    """Run the service of the counters in this many processes, and what every host reads from."""
    with closing(ProductionServers()) as servers:
        servers.start()
        home = str(servers.home)
        by_kind = {child.name(): [child] for child in psutil.Process().children() if home in " ".join(child.cmdline())}
        processes = [_start(servers, "objects", replica) for replica in range(hosts)]
        by_kind["hosts"] = [psutil.Process(process.pid) for process in processes]
        processes += [_start(servers, service) for service in OTHERS]
        try:
            asyncio.run(_wait_settled(servers.nats_url("gateway"), hosts))
            authorization = "Bearer " + servers.issuer().issue("bench", roles=("admin",), lifetime=86_400.0)
            yield Fleet(by_kind, servers.nats_url("client"), authorization)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)


def _start(servers: Servers, service: str, replica: int = 0) -> Process:
    module = f"services.{service}"
    return start(servers, module, service, DATABASE, AIDEVOS_REPLICA=str(replica), AIDEVOS_EVENT_BUS_URL="")


async def _wait_settled(url: str, hosts: int) -> None:
    """Wait until every host serves, and those of the counters have equal shares of them."""
    connection = await connect(url, "bench")
    end = time.monotonic() + START_WITHIN
    equal = [subjects.PARTITIONS // hosts] * hosts + [0] * len(OTHERS)
    try:
        while await _shares(connection, len(equal)) != equal:
            assert time.monotonic() < end, f"{hosts} hosts did not share the partitions in time"
    finally:
        await connection.close()


async def _shares(connection: Client, hosts: int) -> list[int]:
    """Return how many counters' partitions each serving host owns, of up to `hosts` that answer soon. Most first."""
    inbox = connection.new_inbox()
    found: list[HostInfo] = []
    answers = await connection.subscribe(inbox)
    await connection.publish(subjects.FLEET, reply=inbox)
    with suppress(NatsTimeout):
        while len(found) < hosts:
            message = await answers.next_msg(timeout=0.5)
            if message.data:
                found.append(msgspec.json.decode(message.data, type=HostInfo))
    await answers.unsubscribe()
    serving = (host for host in found if host.state == "serving")
    return sorted((len(host.partitions.get("counter", ())) for host in serving), reverse=True)


def _cpu(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))
