"""The two doors of one running pair of services."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import httpx
import nats
import pytest

from tests.e2e.people import Person, register
from tests.e2e.world import Door, HttpDoor, NatsDoor, World, running
from tests.servers import Servers, drop_database


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    name = f"test_{secrets.token_hex(8)}"
    servers.heal()
    with running(servers, name) as world:
        yield world
    drop_database(servers.mongo_url, name)


@pytest.fixture(params=["nats", "http"])
async def door(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Door]:
    if request.param == "http":
        async with httpx.AsyncClient(base_url=world.url, timeout=20) as client:
            yield HttpDoor(client)
    else:
        connection = await nats.connect(world.servers.nats_url("client"))
        yield NatsDoor(connection)
        await connection.close()


@pytest.fixture
def person(http: httpx.AsyncClient) -> Callable[[], Awaitable[Person]]:
    """Registers a user, who logs in."""
    return partial(register, http)


@pytest.fixture
def new_id() -> str:
    return secrets.token_hex(8)


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=world.url, timeout=20) as client:
        yield client


@pytest.fixture
async def over_nats(world: World) -> AsyncIterator[NatsDoor]:
    connection = await nats.connect(world.servers.nats_url("client"))
    yield NatsDoor(connection)
    await connection.close()
