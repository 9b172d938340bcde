"""Streams that have lost events say since when they have them all, whatever was done to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import aio_pika
import nats
import pytest
from nats.aio.client import Client

from aidevos.contracts import subjects
from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import BusError
from aidevos.durable.bus.rabbitmq.broker import FLEET
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus
from aidevos.durable.bus.reading import Patience
from aidevos.durable.client.mirror import AnyEvent
from aidevos.durable.hosting.provision import provision
from tests.support.kits import until
from tests.support.rabbitmq import RabbitMq
from tests.support.servers import Servers

# The clocks of JetStream and of this process are the same; RabbitMQ's times are in whole seconds.
CLOSE = 1.5
STREAM = subjects.EVENTS_STREAM


@pytest.fixture
async def server(servers: Servers) -> AsyncIterator[Client]:
    """Connect, with all permissions, to a server with a new event stream."""
    connection = await nats.connect(servers.nats_url("fleet"))
    await connection.jetstream().delete_stream(STREAM)
    await provision(connection, servers.settings())
    yield connection
    await connection.close()


@pytest.fixture
async def bus(servers: Servers, server: Client) -> AsyncIterator[JetStreamBus]:
    connection = await nats.connect(servers.nats_url("gateway"), inbox_prefix=b"_INBOX_gateway")
    yield JetStreamBus(connection)
    await connection.close()


async def publish(server: Client, *things: str) -> float:
    """Publish an event of each of these and return a time after all of them."""
    for thing in things:
        await server.jetstream().publish(f"event.thing.{thing}.changed", b"{}")
    return time.time()


async def complete_since(bus: JetStreamBus) -> float:
    return await bus.complete_since(FLEET_EVENTS)


async def test_a_new_stream_has_every_event_since_it_was_made(bus: JetStreamBus, server: Client) -> None:
    made = await complete_since(bus)
    await publish(server, "a", "b")

    assert made == pytest.approx(time.time(), abs=CLOSE)
    assert await complete_since(bus) == made


async def test_a_purged_stream_has_every_event_since_the_last_that_is_gone(bus: JetStreamBus, server: Client) -> None:
    made = await complete_since(bus)
    lost = await publish(server, "a", "b")
    await server.jetstream().purge_stream(STREAM)
    empty = await complete_since(bus)
    await publish(server, "c")

    assert made < empty <= lost
    assert lost < await complete_since(bus) <= time.time()


async def test_a_stream_that_lost_some_events_has_all_those_after_them(bus: JetStreamBus, server: Client) -> None:
    await publish(server, "a", "b")
    before = await publish(server, "a")
    await publish(server, "b")
    await server.jetstream().purge_stream(STREAM, subject="event.thing.a.changed")
    followed = await complete_since(bus)
    last = await publish(server, "a")
    await server.jetstream().purge_stream(STREAM, subject="event.thing.a.changed")

    assert before <= followed <= last
    assert followed < await complete_since(bus) <= last


async def test_a_follower_of_a_stream_that_was_made_anew_is_told_and_goes_on(
    bus: JetStreamBus, server: Client, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aidevos.durable.bus.follow.CHECK_EVERY", 0.1)
    seen: list[str] = []
    gaps: list[float] = []
    stream = EventStream(bus, since=960.0)
    stream.on("event.thing.*.changed", AnyEvent, lambda id, event: seen.append(id))
    stream.on_gap(gaps.append)
    following = asyncio.create_task(stream.follow())
    await stream.loaded.wait()
    await publish(server, "a", "b", "c")
    await until(lambda: seen == ["a", "b", "c"])

    lost = time.time()
    await server.jetstream().delete_stream(STREAM)
    await provision(server, servers.settings())
    await until(lambda: gaps[-1] > lost)
    await publish(server, "d")
    await until(lambda: "d" in seen)

    await cancel_and_wait([following])


async def test_a_follower_whose_consumer_is_gone_is_told(
    bus: JetStreamBus, server: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aidevos.durable.bus.jetstream.FOLLOWING", Patience(heartbeat=0.1, silent_for=0.4))
    js = server.jetstream()
    async with aclosing(bus.follow(["event.thing.*.changed"])) as events:
        assert await anext(events) is None
        await publish(server, "a")
        seen = await anext(events)
        assert seen is not None
        # Silence alone is no loss.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting := asyncio.ensure_future(anext(events))), 1.0)
        for consumer in await js.consumers_info(STREAM):
            await js.delete_consumer(STREAM, consumer.name)
        with pytest.raises(BusError):
            await asyncio.wait_for(waiting, 5.0)


async def test_a_new_stream_of_rabbitmq_has_every_event_since_it_was_first_followed(rabbitmq: RabbitMq) -> None:
    connection = await aio_pika.connect(rabbitmq.url)
    async with connection.channel() as channel:
        await channel.queue_delete(FLEET)
    began = time.time()
    bus = RabbitMqBus(rabbitmq.url, max_age=86_400.0, max_bytes=64 * 1024 * 1024, fleet_events=FLEET_EVENTS)
    await bus.open()
    stream = EventStream(bus, since=960.0)
    gaps: list[float] = []
    stream.on(FLEET_EVENTS[0], AnyEvent, lambda id, event: None)
    stream.on_gap(gaps.append)
    following = asyncio.create_task(stream.follow())
    async with asyncio.timeout(10):
        await stream.loaded.wait()

    assert gaps == [pytest.approx(began, abs=CLOSE + 3)]
    assert await bus.complete_since(FLEET_EVENTS) == gaps[0]
    await cancel_and_wait([following])
    await bus.close()
    await connection.close()


async def test_a_follower_whose_consumer_the_server_lost_misses_nothing(bus: JetStreamBus, server: Client) -> None:
    seen: list[str] = []
    stream = EventStream(bus, since=60.0)
    stream.on("event.thing.*.changed", AnyEvent, lambda id, event: seen.append(id))
    following = asyncio.create_task(stream.follow())
    await stream.loaded.wait()

    for consumer in await server.jetstream().consumers_info(STREAM):
        await server.jetstream().delete_consumer(STREAM, consumer.name)
    await publish(server, "missed")
    await until(lambda: "missed" in seen, within=15.0)

    await cancel_and_wait([following])
