"""A burst of requests to one host: each is answered, and nobody else waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bursts import run_burst
from tests.support.host_processes import HostProcess, client
from tests.support.servers import Servers


@pytest.mark.timeout(90)
async def test_every_request_of_a_burst_is_answered_and_others_do_not_wait_for_it(
    servers: Servers, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIDEVOS_MAX_PENDING", "4000")
    async with client(servers) as (caller, _):
        host = HostProcess(servers, database, tmp_path)
        try:
            await caller.call("tally", "probe", "add")
            burst = await run_burst(servers, caller, 12_000, 200, 30.0)
        finally:
            host.close()

    assert burst.outcome.late == 0
    assert burst.outcome.codes.keys() == {"", "overloaded"}
    assert burst.outcome.mute == 0
    assert burst.wait(0.9) < burst.outcome.slowest / 2
    assert "the lease" not in host.log.read_text()
