"""A fleet with several processes of a service is scaled and restarted while clients use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from deploy.local.programs import SERVICES, STAND_IN
from tests.support.fleet_load import Load, log_in
from tests.support.local_fleet import LocalFleet

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("fleet")]
NAMES = [service.name for service in SERVICES]


@pytest.fixture(scope="module")
def fleet(shared_fleet: LocalFleet) -> Iterator[LocalFleet]:
    """Give `objects` two processes while these tests run."""
    shared_fleet.run("scale", "--service", "objects", "--replicas", "2").check_returncode()
    yield shared_fleet
    shared_fleet.run("scale", "--service", "objects", "--replicas", "1").check_returncode()


def services(fleet: LocalFleet) -> dict[tuple[str, int], int]:
    return {replica: pid for replica, pid in fleet.replicas().items() if replica[0] in NAMES}


def test_the_processes_of_a_service_have_one_name_and_several_numbers(fleet: LocalFleet) -> None:
    assert sorted(services(fleet)) == sorted([(name, 0) for name in NAMES] + [("objects", 1)])
    assert "objects-1 " in fleet.run("ps").stdout
    # Other tests may have had one process more, and others in the place of those that they replaced.
    assert {0, 1} <= {line["replica"] for line in fleet.logs("objects", "-n", "100000")} <= {0, 1, 2, STAND_IN}


async def test_services_are_scaled_while_they_are_used(fleet: LocalFleet) -> None:
    before = services(fleet)
    load = Load(fleet.read()["gateway_url"], await log_in(fleet))

    async with load.running():
        for service, count in (("objects", 3), ("http_gateway", 2)):
            scaled = await asyncio.to_thread(fleet.run, "scale", "--service", service, "--replicas", str(count))
            assert (scaled.returncode, scaled.stdout) == (0, f"{service} has {count} processes.\n")
        grown = services(fleet)
        for service, count in (("objects", 2), ("http_gateway", 1)):
            await asyncio.to_thread(fleet.run, "scale", "--service", service, "--replicas", str(count))

    assert grown.keys() - before.keys() == {("objects", 2), ("http_gateway", 1)}
    assert services(fleet) == before
    assert load.failures == []
    assert await load.total() == load.increments


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("scale", "--service", "nonsense", "--replicas", "2"), "SERVICE: 'nonsense' is none of the services objects,"),
        (("scale", "--service", "objects", "--replicas", "65"), "REPLICAS: '65' isn't a number of processes"),
        (("scale", "--service", "objects"), "REPLICAS: '' isn't a number of processes"),
        (("restart", "--service", "nonsense"), "SERVICE: 'nonsense' is none of the services objects,"),
    ],
)
def test_a_wrong_command_is_one_line_that_says_why(fleet: LocalFleet, options: tuple[str, ...], complaint: str) -> None:
    refused = fleet.run(*options)
    assert refused.returncode == 2
    assert refused.stderr.startswith(complaint)
    assert refused.stderr.count("\n") == 1


async def test_a_restart_of_all_services_loses_no_request(fleet: LocalFleet) -> None:
    before = services(fleet)
    load = Load(fleet.read()["gateway_url"], await log_in(fleet))

    async with load.running():
        started = time.monotonic()
        restarted = await asyncio.to_thread(fleet.run, "restart", seconds=300)
        took = time.monotonic() - started

    print(f"\nrestart in {took:.0f} s: {load.report()}")
    assert restarted.returncode == 0, restarted.stderr
    assert load.failures == []
    # On an idle machine it is less than half of the target of 500 ms.
    assert load.p99 < 1.0
    assert await load.total() == load.increments
    after = services(fleet)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())


def test_a_restart_that_is_interrupted_leaves_services_and_the_next_up_mends_it(fleet: LocalFleet) -> None:
    before = services(fleet)
    with fleet.start("restart", "--service", "task_worker") as launcher:
        end = time.monotonic() + 60
        while ("task_worker", 64) not in fleet.replicas():
            assert time.monotonic() < end
            assert launcher.poll() is None
            time.sleep(0.01)
        launcher.kill()
    assert fleet.replicas()["task_worker", 64]

    assert "already up" in fleet.run("up").stdout
    assert services(fleet).keys() == before.keys()


def test_no_fleet_can_not_be_scaled_or_restarted() -> None:
    absent = LocalFleet()
    for options in (("scale", "--service", "objects", "--replicas", "2"), ("restart",)):
        refused = absent.run(*options)
        assert refused.returncode == 1
        assert "no fleet is up" in refused.stderr
    absent.close()
