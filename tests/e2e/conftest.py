"""The services, and an entry point over HTTP and over NATS."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import httpx2
import nats
import pytest

from tests.support.http import http_client
from tests.support.people import Person, register
from tests.support.webhooks import remove_webhooks
from tests.support.world import EntryPoint, HttpEntryPoint, NatsEntryPoint, World, Worlds


@pytest.fixture(scope="module")
def world(worlds: Worlds) -> Iterator[World]:
    world = worlds.shared()
    yield world
    remove_webhooks(world)


@pytest.fixture(params=["nats", "http"])
async def door(request: pytest.FixtureRequest, world: World) -> AsyncIterator[EntryPoint]:
    if request.param == "http":
        async with http_client(base_url=world.url, timeout=20) as client:
            yield HttpEntryPoint(client)
    else:
        connection = await nats.connect(world.servers.nats_url("client"))
        yield NatsEntryPoint(connection)
        await connection.close()


@pytest.fixture
def person(http: httpx2.AsyncClient) -> Callable[[], Awaitable[Person]]:
    """Return a function that registers a user and logs in."""
    return partial(register, http)


@pytest.fixture
def new_id() -> str:
    return secrets.token_hex(8)


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(base_url=world.url, timeout=20) as client:
        yield client


@pytest.fixture
async def over_nats(world: World) -> AsyncIterator[NatsEntryPoint]:
    connection = await nats.connect(world.servers.nats_url("client"))
    yield NatsEntryPoint(connection)
    await connection.close()
