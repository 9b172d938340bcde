"""Bursts of more requests than a host takes: each is answered, and the host keeps its lease.

With the profile `deep`, a host has room for as many as by default, and else for a quarter of that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bursts import run_burst
from tests.support.host_processes import HostProcess, client
from tests.support.kits import repeats
from tests.support.servers import Servers

ROOM = repeats(20_000)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("count", [3 * ROOM, 15 * ROOM // 2])
async def test_every_request_of_a_burst_is_answered_within_its_deadline(
    servers: Servers, database: str, tmp_path: Path, count: int
) -> None:
    async with client(servers) as (caller, _):
        host = HostProcess(servers, database, tmp_path, max_pending=ROOM)
        try:
            await caller.call("tally", "probe", "add")
            burst = await run_burst(servers, caller, count, 1000, 30.0)
        finally:
            host.close()

    print(f"probe: p99 {burst.wait(0.99):.3f} s, worst {burst.wait(1.0):.3f} s; {burst.outcome}")
    assert burst.outcome.late == 0
    assert burst.outcome.codes.keys() == {"", "overloaded"}
    assert burst.outcome.mute == 0
    assert "the lease" not in host.log.read_text()
