"""The adapters under contract: each suite runs on the memory adapter and on the real ones."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest

from aidevos.contracts.fleet_events import FLEET_EVENTS
from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.rabbitmq.bus import RabbitMqBus
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.mongo import MongoStore

MONGO, JETSTREAM, RABBITMQ = (
    pytest.param(name, marks=pytest.mark.servers) for name in ("mongo", "jetstream", "rabbitmq")
)


@pytest.fixture(params=["memory", MONGO])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "memory":
        store: Any = MemoryStore()
    else:
        servers = request.getfixturevalue("servers")
        database = request.getfixturevalue("database")
        # A service's user has sufficient rights for everything that a store does.
        store = MongoStore(servers.mongo_url_of("objects", database, ["thing"]), database, timeout=1.0)
    await store.open("thing")
    yield store
    if request.param == "mongo":
        store.close()


@pytest.fixture(params=["memory", JETSTREAM, RABBITMQ])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with opened(request, request.param) as bus:
        yield bus


@pytest.fixture(params=["memory", JETSTREAM])
async def guarding_bus(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Return a bus that itself refuses repeated and out-of-order events."""
    async with opened(request, request.param) as bus:
        yield bus


@contextlib.asynccontextmanager
async def opened(request: pytest.FixtureRequest, kind: str) -> AsyncIterator[Any]:
    match kind:
        case "memory":
            yield MemoryBus()
        case "jetstream":
            servers = request.getfixturevalue("servers")
            connection = await nats.connect(servers.nats_url("objects"), inbox_prefix=b"_INBOX_objects")
            yield JetStreamBus(connection)
            await connection.close()
        case "rabbitmq":
            url = request.getfixturevalue("rabbitmq").url
            bus = RabbitMqBus(url, max_age=86_400.0, max_bytes=64 * 1024 * 1024, fleet_events=FLEET_EVENTS)
            await bus.open()
            yield bus
            await bus.close()
