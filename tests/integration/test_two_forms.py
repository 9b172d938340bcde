"""A host doesn't start beside one of a version that commits in another form, and says so in one line."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect
from tests.support.host_processes import client
from tests.support.programs import Program
from tests.support.servers import Servers

FORMER = b'{"service":"objects","replica":8,"version":"0.1.0","since":1.5,"types":["tally"],"declined":{}}'


def start_host(servers: Servers, database: str, log: Path) -> Program:
    settings = {
        "AIDEVOS_HOME": str(servers.home),
        "AIDEVOS_NATS_URL": servers.nats_url("objects"),
        "AIDEVOS_MONGO_URL": servers.mongo_url,
        "AIDEVOS_MONGO_DATABASE": database,
        "AIDEVOS_EVENT_BUS_URL": "",
        "AIDEVOS_LEASE": "2",
    }
    log.touch()
    return Program(["tests.support.lone_host"], {**os.environ, **settings}, str(log))


@pytest.mark.timeout(120)
async def test_a_host_starts_only_once_those_of_the_former_version_have_stopped(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    incarnation = f"objects-8_{secrets.token_hex(4)}.{secrets.token_hex(4)}"
    member, lease = subjects.member_key("objects", incarnation), subjects.lease_key("objects", incarnation)
    async with AsyncExitStack() as stack:
        connection = await connect(servers.nats_url("fleet"), "former")
        stack.push_async_callback(connection.close)
        hosts = Bucket(connection, subjects.HOSTS_BUCKET)
        for key, value in ((member, FORMER), (lease, b"1")):
            await hosts.put(key, value)
            stack.push_async_callback(hosts.delete, key)

        refused = start_host(servers, database, tmp_path / "refused.log")
        assert await asyncio.to_thread(refused.wait, 60) == 2
        assert (tmp_path / "refused.log").read_text().splitlines()[-1] == (
            f"aidevos: the host {incarnation} has another version that can't run beside this one: "
            "stop all hosts of objects first"
        )

        await hosts.delete(lease)
        host = start_host(servers, database, tmp_path / "host.log")
        stack.push_async_callback(asyncio.to_thread, host.wait, 30)
        stack.callback(host.terminate)
        async with client(servers) as (caller, _):
            assert await caller.call("tally", secrets.token_hex(6), "add") == 1
