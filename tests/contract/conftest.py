"""The adapters under contract: each suite runs on the one in memory and on the one that is real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest

from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.mongo import MongoStore


@pytest.fixture(params=["memory", "mongo"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "memory":
        store: Any = MemoryStore()
    else:
        servers = request.getfixturevalue("servers")
        store = MongoStore(servers.mongo_url, request.getfixturevalue("database"), timeout=1.0)
    await store.open("thing")
    yield store
    if request.param == "mongo":
        store.close()


@pytest.fixture(params=["memory", "jetstream"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "memory":
        yield MemoryBus()
        return
    servers = request.getfixturevalue("servers")
    connection = await nats.connect(servers.nats_url("objects"), inbox_prefix=b"_INBOX_objects")
    yield JetStreamBus(connection)
    await connection.close()
