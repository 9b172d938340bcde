"""The simulation moves partitions as hosts do, and notices when the fleet breaks a promise."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import pytest

from aidevos.durable.hosting.assignment import assign
from tools.placement import server
from tools.placement.__main__ import lease_messages, main
from tools.placement.host import FREE, Host
from tools.placement.simulation import LEASE_TTL, RENEW_EVERY, Broken, Simulation

SMALL = ("--hosts", "12", "--partitions", "64", "--hours", "5", "--churn", "50", "--outage", "4")


def test_a_small_fleet_comes_to_rest_after_every_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    report = capsys.readouterr().out
    assert re.search("^until at rest after a join +30 ", report, re.MULTILINE)
    assert "4 neighbours killed at once" in report
    assert "the fullest host at rest had 0." in report


def test_the_assignment_at_rest_is_that_of_the_product() -> None:
    fleet = Simulation(12, 64, seed=2)
    fleet.churn(0.5, hours=5)

    owners = {partition: history[-1].owner for partition, history in enumerate(fleet.server.keys)}
    assert assign(server.TYPE, 64, fleet.hosts, owners) == owners == fleet.server.assigned
    assert {name: host.held for name, host in fleet.hosts.items()} == fleet.server.shares


def test_the_same_seed_gives_the_same_run() -> None:
    fleets = [Simulation(12, 64, seed) for seed in (3, 3, 4)]
    for fleet in fleets:
        fleet.churn(0.5, hours=5)
    assert fleets[0].times == fleets[1].times != fleets[2].times


def test_a_killed_host_is_found_within_its_lease() -> None:
    fleet = Simulation(12, 64, seed=5)
    fleet.kill_at_once(1)
    assert LEASE_TTL - RENEW_EVERY <= min(fleet.gaps["kill"]) <= max(fleet.gaps["kill"]) <= LEASE_TTL + 1


def test_dead_hosts_are_found_although_all_that_watch_them_are_dead() -> None:
    fleet = Simulation(12, 64, seed=6)
    fleet.kill_at_once(10)
    assert len(fleet.server.members) == 2
    assert sum(fleet.server.loads().values()) == 64


def test_hosts_hand_over_nothing_when_many_others_die_at_once() -> None:
    fleet = Simulation(60, 1024, seed=1)
    fleet.kill_at_once(12)
    assert fleet.gaps.keys() == {"kill"}


def test_hosts_with_different_views_lose_claims_and_claim_again() -> None:
    fleet = Simulation(12, 64, seed=7)
    fleet.churn(20, hours=1)
    assert fleet.server.tally.lost_claims > 0


def test_uneven_loads_are_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def skewed(type: str, partitions: int, hosts: Collection[str], owners: Mapping[int, str]) -> dict[int, str]:
        return dict.fromkeys(range(partitions), min(hosts))

    monkeypatch.setattr(server, "assign", skewed)

    assert main(SMALL) == 1
    assert "at rest, the loads of two hosts differ by 64 partitions" in capsys.readouterr().err


def test_needless_moves_are_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def forgetful(type: str, partitions: int, hosts: Collection[str], owners: Mapping[int, str]) -> dict[int, str]:
        ring = sorted(hosts)
        return {partition: ring[partition % len(ring)] for partition in range(partitions)}

    monkeypatch.setattr(server, "assign", forgetful)

    assert main(SMALL) == 1
    assert "changes move more than their fair share" in capsys.readouterr().err


def test_two_hosts_that_serve_one_partition_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Simulation(12, 64, seed=8)
    monkeypatch.setattr(Host, "_has_left", lambda self, owner: owner != FREE)
    fleet.server.leases.clear()

    with pytest.raises(Broken, match="two hosts serve the partition"):
        fleet.churn(0.5, hours=5)


def test_a_fleet_that_never_comes_to_rest_is_noticed() -> None:
    fleet = Simulation(4, 64, seed=9)
    with pytest.raises(Broken, match="doesn't come to rest"):
        fleet.kill_at_once(4)


def test_hosts_that_watch_three_others_need_fewer_messages_in_fleets_of_more_than_four() -> None:
    assert lease_messages(4, watched=3) == 40
    assert lease_messages(1000, watched=999) == 2_002_000
    assert lease_messages(1000, watched=3) == 10_000
