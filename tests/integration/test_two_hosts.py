"""Two hosts of one service, seen from outside: their description, the objects in their memory, and their events."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client

from aidevos import DurableObjectClient
from aidevos.contracts import subjects
from aidevos.contracts.fleet import HostInfo
from services.http_gateway.hosts import Hosts
from services.http_gateway.survey import ask_all
from tests.support.host_processes import HostProcess, client, eventually
from tests.support.servers import Servers

SERVICE = "objects"
OBJECTS = 12


class Fleet:
    """Two hosts that have divided the partitions between them."""

    def __init__(self, hosts: list[HostProcess], caller: DurableObjectClient, gateway: Client, admin: Client) -> None:
        self.hosts = hosts
        self.caller = caller
        self._gateway = gateway
        self._events = admin.jetstream()

    async def described(self) -> list[HostInfo]:
        return (await Hosts(self._gateway).find()).hosts

    async def is_divided(self) -> bool:
        """Return True if each host is well and owns its half."""
        hosts = await self.described()
        return [(host.state, len(host.partitions.get("tally", ()))) for host in hosts] == [("serving", 32)] * 2

    async def lost(self) -> list[str]:
        """Return the host that was last told to be lost, if there is one."""
        try:
            found = await self._events.get_last_msg(subjects.EVENTS_STREAM, f"event.fleet.{SERVICE}.host_left")
        except nats.js.errors.NotFoundError:
            return []
        data: dict[str, Any] = json.loads(found.data or b"")["data"]
        return [data["incarnation"]] if data["reason"] == "lost" else []


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def fleet(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder, database = tmp_path_factory.mktemp("hosts"), f"two_hosts_{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        hosts = [HostProcess(servers, database, folder, replica=number) for number in range(2)]
        for host in hosts:
            stack.callback(host.close)
        admin = await nats.connect(servers.nats_url("fleet"))
        stack.push_async_callback(admin.close)
        caller, connection = await stack.enter_async_context(client(servers))
        made = Fleet(hosts, caller, connection, admin)
        await eventually(made.is_divided)
        yield made


@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_scope="module")
async def test_each_partition_is_described_by_its_one_owner(fleet: Fleet) -> None:
    hosts = await fleet.described()

    assert [(host.service, host.replica) for host in hosts] == [(SERVICE, 0), (SERVICE, 1)]
    assert sorted(number for host in hosts for number in host.partitions["tally"]) == list(range(64))


@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_list_shows_which_objects_either_host_has_in_memory(fleet: Fleet) -> None:
    ids = [secrets.token_hex(6) for _ in range(OBJECTS)]
    await asyncio.gather(*(fleet.caller.call("tally", id, "add") for id in ids))
    both = {host.incarnation: host.objects for host in await fleet.described()}
    pages = [await fleet.caller.query("tally", "list") for _ in range(6)]

    assert min(both.values()) > 0
    for page in pages:
        shown = {item["id"]: item["status"] for item in page["items"]}
        assert {shown[id] for id in ids} == {"active"}


@pytest.mark.timeout(60)
@pytest.mark.asyncio(loop_scope="module")
async def test_operators_are_told_of_a_host_that_was_lost(fleet: Fleet) -> None:
    before = await fleet.described()
    fleet.hosts[1].signal(signal.SIGKILL)

    async def is_told() -> bool:
        return await fleet.lost() == [before[1].incarnation]

    await eventually(is_told)
    await eventually(fleet.is_divided)


async def test_a_survey_that_reaches_nobody_has_no_answer(servers: Servers) -> None:
    answers: list[bytes] = []
    connection = await nats.connect(servers.nats_url("fleet"))
    await ask_all(connection, f"nobody.{secrets.token_hex(4)}", answers.append)
    await connection.close()

    assert answers == []
