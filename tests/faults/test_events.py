"""Events under load while the relay's process or the broker dies: none is lost, repeated or out of order.

Repeats are dropped by ID. `FULL=1` kills the relay 200 times.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from aidevos import DurableObjectClient, Failure
from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import BusError, Delivery, EventBus
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus
from aidevos.durable.client.connection import connect
from tests.support import host_process
from tests.support.host_processes import HostProcess, client, eventually
from tests.support.kits import repeats
from tests.support.rabbitmq import RabbitMq
from tests.support.servers import Server, Servers

CRASHES = 200 if os.environ.get("FULL") else repeats(20)
LONGEST = 1800 if os.environ.get("FULL") else 240
RESTARTS = repeats(2)
OBJECTS = 5
# The minimum load before and after each round of restarts.
ROUND = 100
# RabbitMQ 3.10 confirms a quorum queue before it has stored it. If killed in between, it never finds a leader for that
# queue again, and confirms nothing that is bound to it.
WRITTEN_DOWN = 3.0
# Seconds between two calls of a worker while the broker may be down, to bound the backlog of events.
PACE = 0.2
Kind = Literal["jetstream", "rabbitmq"]


class Stage:
    """A host under load whose events go over a bus, and the observers of those events."""

    def __init__(self, bus: EventBus, host: HostProcess, broker: Server) -> None:
        self.ids = [f"{secrets.token_hex(6)}" for _ in range(OBJECTS)]
        self.host = host
        self.broker = broker
        self.followed: dict[str, dict[str, int]] = {id: {} for id in self.ids}
        self.handled: dict[str, set[int]] = {id: set() for id in self.ids}
        self.calls = 0
        self.bus = bus

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Follow all events from now on, without a group and as a group."""
        current = asyncio.Event()
        following = asyncio.create_task(self._follow(current))
        group = f"g{secrets.token_hex(6)}"
        subscription = await self.bus.subscribe("event.tally.*.added", group, self._handle, _refuse)
        await current.wait()
        try:
            yield
        finally:
            await subscription.close()
            following.cancel()

    async def load(self, caller: DurableObjectClient, going_on: Callable[[], bool], pace: float = 0.0) -> None:
        """Count on all objects while `going_on` is true, and at least ten times per worker."""

        async def work(worker: int) -> None:
            number = 0
            while going_on() or number < 10:
                number += 1
                try:
                    # Every second object is never called again: only a scan finds its unsent events.
                    id = self.ids[worker % OBJECTS] if number % 2 else self._new()
                    await caller.object("tally", id, request_id=f"{worker}-{number}").announce()
                except Failure as failure:
                    # A full outbox refuses new events and loses none; a new object's outbox is never full.
                    assert failure.code == "overloaded", failure  # noqa: PT017
                    await asyncio.sleep(0.1)
                self.calls += 1
                await asyncio.sleep(pace)

        await asyncio.gather(*(work(worker) for worker in range(2 * OBJECTS)))

    async def check(self, caller: DurableObjectClient) -> None:
        """Check that follower and group received every counted value, the follower in order."""
        expected = {id: [1] for id in self.followed}
        for id in self.ids:
            expected[id] = list(range(1, await caller.call("tally", id, "value") + 1))

        async def complete() -> bool:
            return all(min(len(self.followed[id]), len(self.handled[id])) >= len(expected[id]) for id in expected)

        with contextlib.suppress(AssertionError):
            await eventually(complete, within=60)
        followed = {id: list(events.values()) for id, events in self.followed.items()}
        handled = {id: sorted(values) for id, values in self.handled.items()}
        assert _differences(followed, expected) == _differences(handled, expected) == []

    def _new(self) -> str:
        id = secrets.token_hex(6)
        self.followed[id], self.handled[id] = {}, set()
        return id

    async def _follow(self, current: asyncio.Event) -> None:
        started, place = time.time(), ""
        while True:
            with contextlib.suppress(BusError):
                async for event in self.bus.follow(["event.tally.*.added"], since=started, after=place):
                    if event is None:
                        current.set()
                    else:
                        place = event.position
                        id, value = _read(event)
                        self.followed.get(id, {}).setdefault(event.id, value)
            await asyncio.sleep(0.1)

    async def _handle(self, event: Delivery) -> None:
        id, value = _read(event)
        self.handled.get(id, set()).add(value)


def _differences(found: dict[str, list[int]], expected: dict[str, list[int]]) -> list[tuple[list[int], list[int]]]:
    """Return pairs of found and expected values where they differ."""
    return [(found[id], expected[id]) for id in expected if found[id] != expected[id]]


def _read(event: Delivery) -> tuple[str, int]:
    return event.subject.split(".")[2], msgspec.json.decode(event.payload)["data"]["value"]


async def _refuse(event: Delivery, failure: Any) -> None:
    raise AssertionError(f"{event.id} is a dead letter: {failure}")


@pytest.fixture(params=["jetstream", "rabbitmq"])
async def stage(
    request: pytest.FixtureRequest, servers: Servers, database: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    connection = await connect(servers.nats_url("objects"), "watcher")
    bus: JetStreamBus | RabbitMqBus = JetStreamBus(connection)
    broker, url = servers.nats, ""
    if request.param == "rabbitmq":
        rabbitmq: RabbitMq = request.getfixturevalue("rabbitmq")
        broker, url = rabbitmq.server, rabbitmq.url
        bus = RabbitMqBus(url, max_age=86_400.0, max_bytes=4 * 1024 * 1024 * 1024, fleet_events=FLEET_EVENTS)
        await bus.open()
    host = HostProcess(servers, database, tmp_path, event_bus_url=url)
    yield Stage(bus, host, broker)
    host.close()
    await bus.close()
    await connection.close()


@pytest.mark.timeout(LONGEST)
async def test_when_the_relay_is_killed_between_commit_and_publishing(stage: Stage, servers: Servers) -> None:
    crashes = stage.host.crash_file
    async with client(servers) as (caller, _), stage.watched():
        host_process.arm(crashes, host_process.BEFORE_RELAY, CRASHES)
        stage.host.signal(host_process.signal.SIGKILL)
        await stage.load(caller, lambda: host_process.lives_left(crashes) > 0)
        await stage.check(caller)


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_when_the_broker_is_restarted_under_load(stage: Stage, servers: Servers, end: str) -> None:
    async with client(servers) as (caller, _), stage.watched():
        restarting = asyncio.create_task(_restart(stage, end))
        await stage.load(caller, lambda: not restarting.done(), PACE)
        await restarting
        await stage.check(caller)


async def _restart(stage: Stage, end: str) -> None:
    if end == "kill" and isinstance(stage.bus, RabbitMqBus):
        await asyncio.sleep(WRITTEN_DOWN)
    for _ in range(RESTARTS):
        before = stage.calls

        async def loaded(before: int = before) -> bool:
            return stage.calls >= before + ROUND

        await eventually(loaded, within=60)
        await asyncio.to_thread(getattr(stage.broker, end))
        await asyncio.to_thread(stage.broker.start)
