"""Again and again, services of a fleet are restarted and scaled while clients use them: no request is lost."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.support.fleet_load import Load, log_in
from tests.support.local_fleet import LocalFleet

pytestmark = pytest.mark.timeout(1800)
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
STEPS = (
    ("restart", "--service", "objects"),
    ("scale", "--service", "objects", "--replicas", "3"),
    ("restart", "--service", "http_gateway"),
    ("scale", "--service", "objects", "--replicas", "2"),
)


async def test_no_request_is_lost_while_services_are_restarted_and_scaled() -> None:
    fleet = LocalFleet(AIDEVOS_REPLICAS="objects=2")
    try:
        fleet.up()
        for _ in range(ROUNDS):
            load = Load(fleet.read()["gateway_url"], await log_in(fleet))
            async with load.running():
                for step in STEPS:
                    done = await asyncio.to_thread(fleet.run, *step)
                    assert done.returncode == 0, done.stderr
            print(load.report())
            assert load.failures == []
            assert await load.total() == load.increments
    finally:
        fleet.close()
