"""A method that holds the event loop of its host takes down that host alone: another one answers."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from tests.support.host_processes import HostProcess, client, eventually
from tests.support.servers import Servers


@pytest.mark.timeout(90)
async def test_another_host_takes_over_from_one_whose_loop_is_held(
    servers: Servers, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDEVOS_STALL_LIMIT", "2")
    id = secrets.token_hex(6)
    first = HostProcess(servers, database, tmp_path)
    async with client(servers) as (caller, connection):
        await caller.call("tally", id, "add")
        headers = {envelope.AUTHORIZATION: "Bearer " + servers.issuer().issue("tester", roles=("admin",))}
        # Without a reply subject, nobody repeats the request, which would hold the other host as well.
        await connection.publish(subjects.call("tally", id, "spin"), b"", headers=headers)

        async def held() -> bool:
            try:
                await caller.object("tally", id, deadline=1.0).value()
            except Failure as failure:
                return failure.code == "unavailable"
            return False

        # Before that, the partition might move to the other host, and the request be dropped.
        await eventually(held)
        second = HostProcess(servers, database, tmp_path, replica=1)

        async def ended() -> bool:
            return not first.running()

        try:
            await eventually(ended, within=30.0)
            assert await caller.call("tally", id, "add") == 2
        finally:
            for host in filter(HostProcess.running, (first, second)):
                host.close()
    assert f"tally:{id}.spin holds the event loop" in first.log.read_text()
