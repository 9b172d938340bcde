"""A running fleet is changed process by process, and put in order after an interruption."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from aidevos.settings import SettingsError
from deploy.local import environment, programs, rolling
from deploy.local.control import FleetError
from deploy.local.credentials import ensure_secrets
from deploy.local.programs import Replica
from deploy.local.rolling import RunningFleet


class FakeSupervisor:
    """A supervisor whose programs are names; `steps` are the changes and waits, in order."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.running: list[str] = []
        self.steps: list[tuple[str, str]] = []
        self.fails: tuple[str, str] | None = None

    def step(self, kind: str, name: str) -> None:
        self.steps.append((kind, name))
        if self.fails == (kind, name):
            raise FleetError(name)

    def reload(self) -> tuple[list[str], list[str]]:
        lines = (self.home / programs.CONFIG_FILE).read_text().splitlines()
        wanted = [line.partition(":")[2].rstrip("]") for line in lines if line.startswith(("[program", "[fcgi"))]
        added = [name for name in wanted if name not in self.running]
        return added, [name for name in self.running if name not in wanted]

    def add(self, name: str) -> None:
        self.step("add", name)
        self.running.append(name)

    def remove(self, name: str) -> None:
        self.step("remove", name)
        self.running.remove(name)

    def check(self) -> None: ...


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSupervisor:
    fake = FakeSupervisor(tmp_path)

    def wait(settings: object, secrets: object, wanted: list[Replica], *_: object) -> None:
        for replica in wanted:
            assert replica.program in fake.running
            fake.step("joined", replica.program)

    monkeypatch.setattr(rolling, "wait_until_joined", wait)
    ensure_secrets(tmp_path)
    (tmp_path / programs.CONFIG_FILE).write_text(programs.render(tmp_path, {}))
    return fake


def open_fleet(supervisor: FakeSupervisor, named: str = "objects=2") -> RunningFleet:
    environment.save(supervisor.home, {"AIDEVOS_REPLICAS": named})
    fleet = RunningFleet(supervisor.home, supervisor)  # type: ignore[arg-type]
    fleet.mend()
    supervisor.steps.clear()
    return fleet


def test_a_fleet_of_an_older_version_can_not_be_changed(supervisor: FakeSupervisor) -> None:
    with pytest.raises(FleetError, match="make down"):
        RunningFleet(supervisor.home, supervisor)  # type: ignore[arg-type]


def test_all_processes_of_a_start_begin_before_one_is_waited_for(supervisor: FakeSupervisor) -> None:
    environment.save(supervisor.home, {"AIDEVOS_REPLICAS": "objects=2"})
    RunningFleet(supervisor.home, supervisor).mend()  # type: ignore[arg-type]

    kinds = [kind for kind, _ in supervisor.steps]
    assert kinds == ["add"] * 10 + ["joined"] * 10
    assert supervisor.running[:3] == ["objects", "objects-1", "authentication"]
    assert supervisor.running[-1] == "http_gateway"


def test_a_restart_replaces_one_process_after_another_beside_a_stand_in(supervisor: FakeSupervisor) -> None:
    fleet = open_fleet(supervisor)
    before = sorted(supervisor.running)

    fleet.restart(["objects"])

    stand_in = Replica("objects", programs.STAND_IN).program
    assert supervisor.steps == [
        ("add", stand_in),
        ("joined", stand_in),
        ("remove", "objects"),
        ("add", "objects"),
        ("joined", "objects"),
        ("remove", "objects-1"),
        ("add", "objects-1"),
        ("joined", "objects-1"),
        ("remove", stand_in),
    ]
    assert sorted(supervisor.running) == before
    assert supervisor.reload() == ([], [])


def test_a_version_that_does_not_start_replaces_nothing(supervisor: FakeSupervisor) -> None:
    fleet = open_fleet(supervisor)
    before = sorted(supervisor.running)
    stand_in = Replica("objects", programs.STAND_IN).program
    supervisor.fails = ("joined", stand_in)

    with pytest.raises(FleetError):
        fleet.restart(["objects"])

    assert [name for kind, name in supervisor.steps if kind == "remove"] == [stand_in]
    assert sorted(supervisor.running) == before


@pytest.mark.parametrize(
    "interrupted", [("remove", "objects"), ("add", "objects"), ("joined", "objects"), ("remove", "objects-64")]
)
def test_an_interrupted_restart_leaves_processes_and_is_mended(
    supervisor: FakeSupervisor, interrupted: tuple[str, str]
) -> None:
    fleet = open_fleet(supervisor, "objects=1")
    before = sorted(supervisor.running)
    supervisor.fails = interrupted
    with pytest.raises(FleetError):
        fleet.restart(["objects"])
    assert "objects-64" in supervisor.running
    supervisor.fails = None
    supervisor.steps.clear()

    RunningFleet(supervisor.home, supervisor).mend()  # type: ignore[arg-type]

    assert sorted(supervisor.running) == before
    assert supervisor.steps.index(("joined", "objects")) < supervisor.steps.index(("remove", "objects-64"))


def test_a_service_is_scaled_up_and_down_and_stays_so(supervisor: FakeSupervisor) -> None:
    fleet = open_fleet(supervisor)
    others = set(supervisor.running) - {"objects", "objects-1"}

    fleet.scale("objects", 4)
    assert set(supervisor.running) - others == {"objects", "objects-1", "objects-2", "objects-3"}
    assert ("joined", "objects-3") in supervisor.steps

    fleet.scale("objects", 1)
    assert set(supervisor.running) - others == {"objects"}
    assert RunningFleet(supervisor.home, supervisor).counts["objects"] == 1  # type: ignore[arg-type]


def test_a_restart_adopts_settings_and_keeps_the_numbers_of_processes(supervisor: FakeSupervisor) -> None:
    fleet = open_fleet(supervisor)

    fleet.adopt({"AIDEVOS_LOG_LEVEL": "DEBUG", "AIDEVOS_REPLICAS": "objects=9"})

    assert (fleet.settings.log_level, fleet.counts["objects"]) == ("DEBUG", 2)
    assert environment.load(supervisor.home) == {"AIDEVOS_LOG_LEVEL": "DEBUG", "AIDEVOS_REPLICAS": "objects=2"}


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "1"), ("HOST", "::1"), ("NATS_URL", "nats://elsewhere"), ("MONGO_PORT", "1")]
)
def test_an_address_can_not_change_while_the_fleet_is_up(supervisor: FakeSupervisor, name: str, value: str) -> None:
    fleet = open_fleet(supervisor)
    before = environment.load(supervisor.home)

    with pytest.raises(SettingsError, match=f"AIDEVOS_{name} has changed"):
        fleet.adopt({f"AIDEVOS_{name}": value})

    assert environment.load(supervisor.home) == before


def test_a_process_has_the_settings_of_the_fleet_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell: dict[str, Any] = {"AIDEVOS_LEASE": "9", "AIDEVOS_HOME": str(tmp_path), "PATH": "/bin"}
    monkeypatch.setattr(os, "environ", shell)
    environment.save(tmp_path, {"AIDEVOS_LOG_LEVEL": "DEBUG"})

    environment.adopt(tmp_path)

    assert shell == {"AIDEVOS_LOG_LEVEL": "DEBUG", "AIDEVOS_HOME": str(tmp_path), "PATH": "/bin"}


def test_settings_that_differ_from_the_fleets_are_named_with_the_command_that_applies_them(
    supervisor: FakeSupervisor,
) -> None:
    fleet = open_fleet(supervisor)

    assert fleet.advise({}) == fleet.advise({"AIDEVOS_IDLE_AFTER": "5m", "AIDEVOS_REPLICAS": "objects=3"}) == ""
    assert fleet.advise({"AIDEVOS_IDLE_AFTER": "15m", "AIDEVOS_RATE_LIMIT": "7"}) == (
        "The running fleet has other values of AIDEVOS_IDLE_AFTER, AIDEVOS_RATE_LIMIT: `make restart` applies yours."
    )
    assert fleet.advise({"AIDEVOS_IDLE_AFTER": "15m", "AIDEVOS_PORT": "9000"}) == (
        "The running fleet has other values of AIDEVOS_IDLE_AFTER, AIDEVOS_PORT: `make down` and `make up` apply yours."
    )
