"""Measures tells applied per second, and their CPU time.

Those of clients are compared with bare JetStream publishes with acknowledgements, and those of objects with commands
that do the same to the same objects.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from aidevos import DurableObjectClient
from aidevos.contracts import envelope, subjects
from tests.bench.cases import OBJECTS, Stage
from tests.bench.comparison import Compared
from tests.bench.costs import Costs, cost_rows
from tests.bench.events import running_tallies
from tests.bench.load import Sample
from tests.support.host_processes import client

IN_FLIGHT = 256
WITHIN = 120.0
BARE = "BENCH_TELLS"
PAYLOAD = b'{"by": 1}'
# Objects that tell others, and that are told; each command tells `FAN` of them.
TALLIES, FAN = 256, 16
Do = Callable[[DurableObjectClient, int], Awaitable[None]]


def measure(stage: Stage, seconds: float, rounds: int) -> list[Compared]:
    rows = asyncio.run(_measure(stage, seconds, rounds))
    with running_tallies(stage, ""):
        return rows + asyncio.run(_measure_objects(stage, seconds, rounds))


async def _measure(stage: Stage, seconds: float, rounds: int) -> list[Compared]:
    servers = stage.world.servers
    teller, fleet = [await nats.connect(servers.nats_url(user)) for user in ("client", "fleet")]
    manager = fleet.jetstream()
    config = StreamConfig(BARE, subjects=["bench.>"], storage=StorageType.FILE, discard=DiscardPolicy.NEW)
    await manager.add_stream(config)

    async def none_left() -> None:
        end = time.monotonic() + WITHIN
        while (await manager.stream_info(subjects.TELLS_STREAM)).state.messages:
            assert time.monotonic() < end, "the tells are not applied in time"
            await asyncio.sleep(0.005)

    async def nothing() -> None:
        pass

    def tells() -> Awaitable[Sample]:
        return _publish(teller, "tell.counter", stage.authorization, seconds, none_left)

    def publishes() -> Awaitable[Sample]:
        return _publish(fleet, "bench.counter", stage.authorization, seconds, nothing)

    await tells()  # makes the objects
    name, beside = f"tells to {OBJECTS:,} counters, applied", "bare JetStream publish"
    rows = await _alternate(name, tells, beside, publishes, rounds)
    await manager.delete_stream(BARE)
    await teller.close()
    await fleet.close()
    return rows


async def _measure_objects(stage: Stage, seconds: float, rounds: int) -> list[Compared]:
    """Compare tells of objects with commands that count as well."""
    ids = [secrets.token_hex(6) for _ in range(TALLIES)]
    expected = dict.fromkeys(ids, 0)

    async def tell(caller: DurableObjectClient, number: int) -> None:
        to = [ids[(number * FAN + each) % TALLIES] for each in range(FAN)]
        await caller.call("teller", ids[number % TALLIES], "pass_on", to=to)
        for id in to:
            expected[id] += 1

    async def add(caller: DurableObjectClient, number: int) -> None:
        id = ids[number % TALLIES]
        await caller.call("tally", id, "add")
        expected[id] += 1

    async def all_counted(caller: DurableObjectClient) -> None:
        async with asyncio.timeout(WITHIN):
            for id in ids:
                while await caller.call("tally", id, "value") < expected[id]:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

    async with client(stage.world.servers) as (caller, _):
        await asyncio.gather(*(add(caller, number) for number in range(TALLIES)))

        async def count(do: Do, in_flight: int) -> Sample:
            before, began, numbers = sum(expected.values()), time.monotonic(), itertools.count()

            async def work() -> None:
                while time.monotonic() < began + seconds:
                    await do(caller, next(numbers))

            await asyncio.gather(*(work() for _ in range(in_flight)))
            await all_counted(caller)
            counted = sum(expected.values()) - before
            return Sample(counted / (time.monotonic() - began), 0.0, 0.0, counted)

        name, beside = f"tells of objects to {TALLIES} others, applied", "commands"
        return await _alternate(
            name, lambda: count(tell, IN_FLIGHT // FAN), beside, lambda: count(add, IN_FLIGHT), rounds
        )


async def _alternate(
    name: str, own: Callable[[], Awaitable[Sample]], beside: str, other: Callable[[], Awaitable[Sample]], rounds: int
) -> list[Compared]:
    """Measure both in turn, and return the rows with their rates and costs."""
    costs, others = Costs(), Costs()
    pairs = [(await costs.measure(own()), await others.measure(other())) for _ in range(rounds)]
    samples, bare = zip(*pairs, strict=True)
    rates = Compared(name, beside, "rate", list(samples), list(bare), None, None)
    return [rates, *cost_rows(name, costs, beside, others)]


async def _publish(
    connection: Client, prefix: str, authorization: str, seconds: float, done: Callable[[], Awaitable[None]]
) -> Sample:
    """Publish for these seconds; return the acknowledged count, the elapsed time and the acknowledgement latencies."""
    js = connection.jetstream()
    headers = {envelope.AUTHORIZATION: authorization}
    latencies: list[float] = []
    begin = time.monotonic()

    async def sender(number: int) -> None:
        while time.monotonic() < begin + seconds:
            sent = time.monotonic()
            id = (len(latencies) + number) % OBJECTS
            await js.publish(f"{prefix}.tell{id}.increment", PAYLOAD, headers=headers, timeout=10)
            latencies.append(1000 * (time.monotonic() - sent))

    await asyncio.gather(*(sender(number) for number in range(IN_FLIGHT)))
    await done()
    elapsed = time.monotonic() - begin
    latencies.sort()
    count = len(latencies)
    return Sample(count / elapsed, latencies[count // 2], latencies[count * 99 // 100], count)
