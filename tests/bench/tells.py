"""Measures clients' tells stored and applied per second, against bare JetStream publishes with acknowledgements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from aidevos.contracts import envelope, subjects
from tests.bench.cases import OBJECTS, Stage
from tests.bench.comparison import Compared
from tests.bench.load import Sample

IN_FLIGHT = 256
WITHIN = 120.0
BARE = "BENCH_TELLS"
PAYLOAD = b'{"by": 1}'


def measure(stage: Stage, seconds: float, rounds: int) -> list[Compared]:
    own, bare = asyncio.run(_measure(stage, seconds, rounds))
    return [
        Compared(f"tells to {OBJECTS:,} counters, applied", "bare JetStream publish", "rate", own, bare, None, None)
    ]


async def _measure(stage: Stage, seconds: float, rounds: int) -> tuple[list[Sample], list[Sample]]:
    servers = stage.world.servers
    client, fleet = [await nats.connect(servers.nats_url(user)) for user in ("client", "fleet")]
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

    async def tells() -> Sample:
        return await _publish(client, "tell.counter", stage.authorization, seconds, none_left)

    async def publishes() -> Sample:
        return await _publish(fleet, "bench.counter", stage.authorization, seconds, nothing)

    await tells()  # makes the objects
    samples = [(await tells(), await publishes()) for _ in range(rounds)]
    await manager.delete_stream(BARE)
    await client.close()
    await fleet.close()
    return [own for own, _ in samples], [bare for _, bare in samples]


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
    return Sample(len(latencies) / elapsed, latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100])
