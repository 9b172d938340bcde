"""What callers and readers learn about a type that no host serves, or none has for a while."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from nats.aio.client import Client

from aidevos import DurableObjectClient
from aidevos.client import NotFound, Unavailable
from aidevos.client import connect as connect_client
from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect
from aidevos.durable.client.types import FORGOTTEN_AFTER, STARTS_WITHIN, UNSERVED_AFTER, TypeDirectory
from services.http_gateway.catalogue import TypeCatalogue
from tests.support.described_types import type_description
from tests.support.host_processes import HostProcess, client, eventually
from tests.support.kits import failure
from tests.support.servers import Servers


class Later:
    """A clock that is ahead of the servers' by some seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
async def connection(servers: Servers) -> AsyncIterator[Client]:
    connection = await connect(servers.nats_url("fleet"), "test")
    yield connection
    await connection.close()


@pytest.fixture
async def thing(connection: Client) -> AsyncIterator[str]:
    """Announce a type that nobody serves, and return its name."""
    name = f"thing_{secrets.token_hex(4)}"
    types = Bucket(connection, subjects.TYPES_BUCKET)
    await types.put(name, msgspec.json.encode(type_description(name, [])))
    yield name
    await types.delete(name)


async def test_a_call_to_a_type_that_nobody_serves_fails_at_once(connection: Client, thing: str) -> None:
    clock = Later()
    directory = TypeDirectory(connection, {"expected"}, clock)
    caller = DurableObjectClient(connection, lambda: "", default_deadline=30.0, types=directory)
    await caller.start()

    async def code(type: str) -> str:
        return (await failure(caller.call(type, "x", "go"))).code

    async with asyncio.timeout(10.0):
        assert await code("nothing") == "unknown-type"
        clock.ahead = UNSERVED_AFTER + STARTS_WITHIN + 1.0
        assert await code(thing) == "unavailable"
        assert await code("nothing") == "unknown-type"


async def test_a_type_is_unserved_after_a_while_and_forgotten_after_a_day(connection: Client, thing: str) -> None:
    clock = Later()
    directory = TypeDirectory(connection, {"expected"}, clock)

    await directory.check("expected")
    await directory.check(thing)
    clock.ahead = UNSERVED_AFTER + STARTS_WITHIN + 1.0
    unserved = await failure(directory.check(thing))
    clock.ahead = FORGOTTEN_AFTER + 1.0
    forgotten = await failure(directory.check(thing))

    assert (unserved.code, thing in unserved.detail, unserved.retryable) == ("unavailable", True, True)
    assert (forgotten.code, thing in forgotten.detail) == ("unknown-type", True)


async def test_a_client_over_nats_is_refused_an_unknown_type_at_once_and_waits_for_a_host_that_is_away(
    servers: Servers, thing: str
) -> None:
    async with connect_client(servers.nats_url("client")) as client, asyncio.timeout(10.0):
        unknown = await failure(client.object("nothing", "x").go())
        away = await failure(client.object(thing, "x", deadline=1.0).go())

    assert (type(unknown), unknown.code, unknown.field) == (NotFound, "unknown-type", "type")
    assert (type(away), away.code) == (Unavailable, "unavailable")


async def test_while_a_process_starts_it_waits_for_the_hosts(connection: Client, thing: str) -> None:
    clock = Later()
    clock.ahead = UNSERVED_AFTER + 1.0

    await TypeDirectory(connection, now=clock).check(thing)


async def test_the_catalogue_leaves_out_a_type_that_nobody_has_served_for_a_day(connection: Client, thing: str) -> None:
    clock = Later()
    catalogue = TypeCatalogue(connection, clock)
    following = asyncio.create_task(catalogue.follow())
    await catalogue.wait_until_loaded()
    assert thing in catalogue.names()
    generation = catalogue.generation

    async def is_gone() -> bool:
        return thing not in catalogue.names()

    clock.ahead = FORGOTTEN_AFTER + 1.0
    await eventually(is_gone)

    assert catalogue.generation > generation
    assert thing not in {type.type for type in catalogue.descriptions}
    assert (await failure(_checked(catalogue, thing))).code == "unknown-type"
    following.cancel()


async def _checked(catalogue: TypeCatalogue, type: str) -> None:
    catalogue.check(type)


@pytest.mark.timeout(60)
async def test_a_served_type_is_announced_again_and_its_objects_learn_of_unknown_types(
    servers: Servers,
    database: str,
    tmp_path: Path,
    connection: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_ANNOUNCE_EVERY", "0.1")
    directory = TypeDirectory(connection)
    host = HostProcess(servers, database, tmp_path)
    try:
        async with client(servers) as (caller, _):
            await caller.call("tally", "a", "add")
            first = await directory.announced_at("tally")

            async def is_announced_again() -> bool:
                return await directory.announced_at("tally") != first

            await eventually(is_announced_again)
            began = time.monotonic()
            refused = await failure(caller.call("tally", "a", "call_type", type="nothing"))

            assert (refused.code, "nothing" in refused.detail) == ("unknown-type", True)
            assert time.monotonic() - began < 5.0
    finally:
        host.close()
