"""A host that can't join the fleet yet retries; its process stays alive."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import nats
import pytest

from aidevos.contracts import subjects
from tests.support.host_processes import HostProcess, client
from tests.support.servers import Servers


@pytest.mark.timeout(60)
async def test_a_host_whose_buckets_do_not_answer_joins_when_they_do(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    id = secrets.token_hex(6)
    admin = await nats.connect(servers.nats_url("fleet"))
    js = admin.jetstream()
    stream = f"KV_{subjects.HOSTS_BUCKET}"
    config = (await js.stream_info(stream)).config
    await js.delete_stream(stream)
    host = HostProcess(servers, database, tmp_path)
    try:
        while "trying again" not in host.log.read_text():
            assert host.running()
            await asyncio.sleep(0.02)
        await js.add_stream(config)
        async with client(servers) as (caller, _):
            answer = await caller.call("tally", id, "add")
    finally:
        host.close()
        await admin.close()

    assert answer == 1
