"""A fleet whose events go over RabbitMQ behaves like one on JetStream."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator

import httpx2
import msgspec
import nats
import pytest

from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.port import Delivery
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus
from tests.support.logins import Person, bearer, logged_in, wait_until_refused
from tests.support.people import made, register
from tests.support.rabbitmq import RabbitMq
from tests.support.receiver import Receiver
from tests.support.world import World, Worlds


@pytest.fixture(scope="module")
def world(worlds: Worlds, rabbitmq: RabbitMq) -> Iterator[World]:
    rabbitmq.start()
    with worlds.alone(event_bus_url=rabbitmq.url) as world:
        yield world


@pytest.fixture
def person() -> Person:
    name = f"Ada{secrets.token_hex(6)}"
    return Person(name, f"{name}@example.org")


@pytest.fixture
async def bus(rabbitmq: RabbitMq) -> AsyncIterator[RabbitMqBus]:
    bus = RabbitMqBus(rabbitmq.url, max_age=86_400.0, max_bytes=64 * 1024 * 1024, fleet_events=FLEET_EVENTS)
    await bus.open()
    yield bus
    await bus.close()


async def test_a_logout_kills_the_token_within_a_second(http: httpx2.AsyncClient, world: World, person: Person) -> None:
    pair = await logged_in(http, person)
    assert (await http.post("/auth/logout", headers=bearer(pair))).status_code == 204
    await wait_until_refused(http, pair)


async def test_a_change_of_roles_counts_within_a_second_for_tokens_that_are_out(
    http: httpx2.AsyncClient, world: World, person: Person
) -> None:
    pair, role = await logged_in(http, person), f"r{secrets.token_hex(6)}"
    admin = {"Authorization": world.admin}

    async def listing() -> int:
        return (await http.get("/users?limit=1", headers=bearer(pair))).status_code

    assert await listing() == 403
    made = await http.post("/roles", headers=admin, json={"name": role, "permissions": ["users:read"]})
    given = await http.put(f"/users/{pair['user']['id']}", headers=admin, json={"roles": ["user", role]})
    assert (made.status_code, given.status_code) == (201, 200)
    async with asyncio.timeout(1):
        while await listing() != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await http.put(f"/roles/{role}", headers=admin, json={"permissions": []})).status_code == 200
    async with asyncio.timeout(1):
        while await listing() != 403:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_events_of_items_reach_a_group_in_their_order_and_nobody_on_nats(
    http: httpx2.AsyncClient, world: World, bus: RabbitMqBus
) -> None:
    admin, name = {"Authorization": world.admin}, f"c{secrets.token_hex(6)}"
    told: asyncio.Queue[Delivery] = asyncio.Queue()

    async def refuse(delivery: Delivery, failure: Failure) -> None:
        raise AssertionError(failure)

    connection = await nats.connect(world.servers.nats_url("client"))
    on_nats = await connection.subscribe(f"event.item.{item_object(name, 'x')}.*")
    subscription = await bus.subscribe(f"event.item.{item_object(name, 'x')}.*", f"g{name}", told.put, refuse)
    assert (await http.put(f"/data/collections/{name}", headers=admin, json={})).status_code == 201
    made = await http.post(f"/data/collections/{name}", headers=admin, json={"id": "x", "data": 1})
    changed = await http.put(f"/data/collections/{name}/x", headers=admin, json={"data": 2})
    gone = await http.delete(f"/data/collections/{name}/x", headers=admin)
    assert (made.status_code, changed.status_code, gone.status_code) == (201, 200, 204)
    events = [await asyncio.wait_for(told.get(), 5) for _ in range(3)]
    await subscription.close()

    assert [event.subject.rpartition(".")[2] for event in events] == ["created", "updated", "deleted"]
    assert [msgspec.json.decode(event.payload)["data"]["version"] for event in events] == [1, 2, 3]
    assert on_nats.pending_msgs == 0
    await connection.close()


async def test_an_event_that_the_broker_missed_while_it_was_away_follows(
    http: httpx2.AsyncClient, world: World, person: Person, rabbitmq: RabbitMq
) -> None:
    pair = await logged_in(http, person)
    rabbitmq.server.stop()
    assert (await http.post("/auth/logout", headers=bearer(pair))).status_code == 204
    rabbitmq.start()
    async with asyncio.timeout(30):
        while (await http.get("/auth/me", headers=bearer(pair))).status_code != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_webhooks_lose_no_event_when_their_service_is_killed(http: httpx2.AsyncClient, world: World) -> None:
    ada, name = await register(http), f"c{secrets.token_hex(6)}"
    async with Receiver() as receiver:
        hook = await made(http, "/webhooks", ada, url=receiver.url(), events=["item.created"])
        # The promise is: within a second. To see when it counts takes events that would be counted below.
        await asyncio.sleep(1)
        path = f"/data/collections/{name}"
        ids = {(await made(http, path, ada, data={"n": 1}))["id"] for _ in range(10)}
        world.restart("events")
        ids |= {(await made(http, path, ada, data={"n": 2}))["id"] for _ in range(10)}
        got = await receiver.until(20, within=60)
    assert {each.verified(hook["secret"])["data"]["id"] for each in got} == ids
