"""Two versions of one service run side by side as processes, and no caller notices which one answers."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from aidevos import Failure
from tests.support.host_processes import client
from tests.support.many_hosts import hosts_of
from tests.support.servers import Servers

OLD, NEW = 0, 1
NEWER = "tests.support.newer_host"


@pytest.mark.timeout(180)
async def test_a_newer_version_takes_over_and_the_older_one_leaves_alone_what_it_can_t_read(
    servers: Servers, database: str, tmp_path: Path
) -> None:
    ids = [secrets.token_hex(6) for _ in range(40)]
    async with hosts_of(servers, database, tmp_path) as hosts, client(servers) as (caller, _):

        async def add() -> list[int]:
            return await asyncio.gather(*(caller.call("tally", id, "add") for id in ids))

        hosts.start(OLD)
        await hosts.spread()
        assert await add() == [1] * len(ids)
        with pytest.raises(Failure) as refused:
            await caller.object("novelty", "a", deadline=1.0).add()
        assert refused.value.code == "unavailable"

        hosts.start(NEW, NEWER)
        await hosts.spread()
        assert await add() == [2] * len(ids)
        assert await caller.call("novelty", "a", "add") == 1

        # The older one comes back, and finds states that it can't read.
        await hosts.stop(OLD)
        await hosts.spread()
        assert await add() == [3] * len(ids)
        hosts.start(OLD)

        def declined() -> bool:
            return any("whose schema is newer" in log.read_text() for log in tmp_path.glob(f"host-{OLD}-*.log"))

        while not declined():
            assert await asyncio.gather(*(caller.call("tally", id, "value") for id in ids)) == [3] * len(ids)
        assert await add() == [4] * len(ids)
        assert await caller.call("novelty", "a", "add") == 2
