"""Measures how many events per second reach a subscriber, and how long after their commits.

Commands of hosted objects emit the events, and a group with one member receives them. The comparison publishes the
same payload bare, with the broker's confirmation, from as many publishers. Both use the bus client.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from typing import Literal

import aio_pika
import msgspec
import nats

from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import Delivery, EventBus
from aidevos.durable.bus.rabbitmq.broker import EVENTS
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus
from tests.bench.cases import Stage
from tests.bench.comparison import Compared
from tests.bench.costs import Costs, cost_rows
from tests.bench.load import Sample
from tests.bench.processes import start
from tests.support.host_processes import client
from tests.support.rabbitmq import RabbitMq

Kind = Literal["JetStream", "RabbitMQ"]
KINDS: tuple[Kind, ...] = ("JetStream", "RabbitMQ")
OBJECTS = 256
IN_FLIGHT = 256
PAYLOAD = b"x" * 250
# Seconds within which the last events must arrive.
WITHIN = 60.0
Publish = Callable[[str], Awaitable[None]]


def measure(stage: Stage, seconds: float, rounds: int) -> list[Compared]:
    with ExitStack() as stack:
        rabbitmq = stack.enter_context(closing(RabbitMq()))
        rabbitmq.start()
        urls = {"JetStream": "", "RabbitMQ": rabbitmq.url}
        return [each for kind in KINDS for each in asyncio.run(_compare(stage, kind, urls[kind], seconds, rounds))]


async def _compare(stage: Stage, kind: Kind, url: str, seconds: float, rounds: int) -> list[Compared]:
    costs, others = Costs(), Costs()
    many: list[tuple[Sample, Sample]] = []
    alone: list[tuple[Sample, Sample]] = []
    with running_tallies(stage, url):
        for _ in range(rounds):
            own = await costs.measure(_events(stage, url, seconds, IN_FLIGHT))
            many.append((own, await others.measure(_bare(stage, url, seconds, IN_FLIGHT))))
            own = await _events(stage, url, seconds, 1)
            alone.append((own, await _bare(stage, url, seconds, 1)))
    name, beside = f"events over {kind}, commit to subscriber", "publishing alone, confirmed"
    return [
        _compared(name, beside, "rate", many),
        *cost_rows(name, costs, beside, others),
        _compared(f"an event over {kind}, commit to subscriber, alone", beside, "p99", alone),
    ]


def _compared(name: str, beside: str, of: Literal["rate", "p99"], pairs: list[tuple[Sample, Sample]]) -> Compared:
    own, other = zip(*pairs, strict=True)
    return Compared(name, beside, of, list(own), list(other), None, None)


async def _events(stage: Stage, url: str, seconds: float, in_flight: int) -> Sample:
    """Measure events per second at the subscriber, and their delay after the command's answer in milliseconds."""
    ids = [secrets.token_hex(6) for _ in range(OBJECTS)]
    answered: dict[tuple[str, int], float] = {}
    came: dict[tuple[str, int], float] = {}

    async def take(event: Delivery) -> None:
        value = msgspec.json.decode(event.payload)["data"]["value"]
        came.setdefault((event.subject.split(".")[2], value), time.perf_counter())

    async with client(stage.world.servers) as (caller, _), _bus(stage, url) as bus:
        subscription = await bus.subscribe("event.tally.*.added", f"bench.{secrets.token_hex(6)}", take, _never)
        end = time.perf_counter() + seconds

        async def work(worker: int) -> None:
            while time.perf_counter() < end:
                id = ids[worker % OBJECTS]
                value = await caller.call("tally", id, "announce")
                answered[id, value] = time.perf_counter()

        began = time.perf_counter()
        await asyncio.gather(*(work(worker) for worker in range(in_flight)))
        async with asyncio.timeout(WITHIN):
            while not answered.keys() <= came.keys():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await subscription.close()
    # A subscriber may have an event before the caller has its answer.
    late = sorted(1000 * max(0.0, came[key] - at) for key, at in answered.items())
    count = len(late)
    return Sample(count / (max(came.values()) - began), late[count // 2], late[count * 99 // 100], count)


async def _never(event: Delivery, failure: Exception) -> None:
    raise AssertionError(f"{event.id}: {failure}")


async def _bare(stage: Stage, url: str, seconds: float, in_flight: int) -> Sample:
    times: list[float] = []
    async with _publishing(stage, url) as publish:
        began = time.perf_counter()

        async def work() -> None:
            while (now := time.perf_counter()) < began + seconds:
                await publish(f"event.bare.{secrets.token_hex(6)}.added")
                times.append(1000 * (time.perf_counter() - now))

        await asyncio.gather(*(work() for _ in range(in_flight)))
        elapsed = time.perf_counter() - began
    times.sort()
    count = len(times)
    return Sample(count / elapsed, times[count // 2], times[count * 99 // 100], count)


@asynccontextmanager
async def _publishing(stage: Stage, url: str) -> AsyncIterator[Publish]:
    """Measure confirmed publishes by the broker's bare client."""
    if not url:
        connection = await nats.connect(stage.world.servers.nats_url("fleet"))
        js = connection.jetstream()

        async def store(subject: str) -> None:
            await js.publish(subject, PAYLOAD)

        yield store
        await connection.close()
        return
    async with await aio_pika.connect(url) as rabbitmq, rabbitmq.channel() as channel:
        exchange = await channel.get_exchange(EVENTS)

        async def send(subject: str) -> None:
            message = aio_pika.Message(PAYLOAD, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, subject, mandatory=True)

        yield send


@asynccontextmanager
async def _bus(stage: Stage, url: str) -> AsyncIterator[EventBus]:
    if url:
        bus = RabbitMqBus(url, max_age=86_400.0, max_bytes=4 * 1024 * 1024 * 1024, fleet_events=FLEET_EVENTS)
        await bus.open()
        yield bus
        await bus.close()
    else:
        connection = await nats.connect(stage.world.servers.nats_url("objects"), inbox_prefix=b"_INBOX_objects")
        yield JetStreamBus(connection)
        await connection.close()


@contextmanager
def running_tallies(stage: Stage, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a host of objects that emit events and tell others."""
    world = stage.world
    environment = {"AIDEVOS_REPLICA": "2", "AIDEVOS_EVENT_BUS_URL": url}
    process = start(world.servers, "tests.bench.tallies", "objects", world.database, **environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
