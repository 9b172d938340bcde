"""The description that a host gives of itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from aidevos.contracts import subjects
from aidevos.contracts.fleet import HostInfo
from aidevos.durable.hosting.host_description import HostDescription
from aidevos.observability.health import Health
from tests.support.kits import START


class Connection:
    """A connection that keeps what is published, and the callbacks of its subscriptions."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.callbacks: dict[str, Any] = {}

    async def subscribe(self, subject: str, cb: Any) -> Any:
        self.callbacks[subject] = cb

        async def unsubscribe() -> None:
            del self.callbacks[subject]

        return SimpleNamespace(unsubscribe=unsubscribe)

    async def publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))

    async def ask(self, reply: str) -> HostInfo:
        await self.callbacks[subjects.FLEET](SimpleNamespace(subject=subjects.FLEET, reply=reply))
        return msgspec.json.decode(self.published[-1][1], type=HostInfo)


class Catalogue:
    residents = SimpleNamespace(memory=4096)

    def __len__(self) -> int:
        return 7


class World:
    def __init__(self) -> None:
        self.connection = Connection()
        self.partitions: dict[str, set[int]] = {"session": {40, 3}, "auth": set()}
        self.problem = ""
        connection: Any = self.connection
        catalogue: Any = Catalogue()
        health = Health(lambda: START)
        health.watch("lease", lambda: self.problem)
        self.description = HostDescription(
            connection,
            catalogue,
            service="authentication",
            replica=2,
            incarnation="authentication-2.00ff",
            version="1.2.3",
            since=START,
            partitions=lambda: self.partitions,
            health=health,
            clock=lambda: START,
        )


@pytest.fixture
async def world() -> World:
    made = World()
    await made.description.start()
    return made


async def test_a_host_says_what_it_is_and_what_it_owns(world: World) -> None:
    answer = await world.connection.ask("_INBOX_gateway.a")

    assert answer == HostInfo(
        service="authentication",
        replica=2,
        incarnation="authentication-2.00ff",
        version="1.2.3",
        since="2027-01-15T08:00:00.000Z",
        state="serving",
        detail="",
        partitions={"auth": [], "session": [3, 40]},
        objects=7,
        memory=4096,
        now="2027-01-15T08:00:00.000Z",
    )


async def test_a_host_says_how_it_is_at_the_moment(world: World) -> None:
    world.problem, world.partitions = "the lease has lapsed", {}
    unhealthy = await world.connection.ask("_INBOX_gateway.a")
    world.description.draining = True
    draining = await world.connection.ask("_INBOX_gateway.a")

    assert (unhealthy.state, unhealthy.detail, unhealthy.partitions) == ("unhealthy", "the lease has lapsed", {})
    assert (draining.state, draining.detail) == ("draining", "the lease has lapsed")
    assert [(each.part, each.since) for each in draining.problems] == [("lease", "2027-01-15T08:00:00.000Z")]


@pytest.mark.parametrize("reply", ["", "event.fleet.a.b", "$KV.hosts.x"])
async def test_a_host_publishes_to_inboxes_alone(world: World, reply: str) -> None:
    await world.connection.callbacks[subjects.FLEET](SimpleNamespace(subject=subjects.FLEET, reply=reply))

    assert world.connection.published == []


async def test_a_host_that_has_stopped_answers_no_more(world: World) -> None:
    await world.description.stop()

    assert world.connection.callbacks == {}
