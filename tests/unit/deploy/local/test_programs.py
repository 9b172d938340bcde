"""The supervisor's configuration, as the supervisor reads it, and the numbers of processes of services."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.security.fleet_secrets import Secrets
from aidevos.settings import Settings, SettingsError, load
from deploy.local import environment, programs
from deploy.local.credentials import ensure_secrets
from deploy.local.programs import SERVICES, STAND_IN, Replica
from deploy.local.supervisor import FleetOptions, FleetSupervisor

NAMES = [service.name for service in SERVICES]


@pytest.fixture(autouse=True)
def _kept_environment() -> Iterator[None]:
    """The options of the supervisor replace variables of its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({}, home=tmp_path, port=18080)


@pytest.fixture
def secrets(settings: Settings) -> Secrets:
    return ensure_secrets(settings.home)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def read(text: str, settings: Settings, listener: socket.socket) -> dict[str, Any]:
    """Return the groups of a configuration, by name, as the supervisor has them."""
    file = settings.home / programs.CONFIG_FILE
    file.write_text(text)
    (settings.home / programs.LOGS).mkdir(exist_ok=True)
    environment.save(settings.home, {})
    options = FleetOptions(settings.home, listener)
    options.realize(["--configuration", str(file)])
    return {group.name: group for group in options.process_group_configs}


@given(st.sampled_from(NAMES), st.integers(0, STAND_IN))
def test_a_replica_is_found_by_the_name_of_its_program(service: str, number: int) -> None:
    assert programs.replica(Replica(service, number).program) == Replica(service, number)


def test_the_first_process_of_a_service_has_its_name() -> None:
    assert [Replica("objects", number).program for number in (0, 1)] == ["objects", "objects-1"]


def test_each_replica_is_a_program_with_its_own_number_and_log(
    settings: Settings, secrets: Secrets, listener: socket.socket
) -> None:
    base = programs.render(settings.home, {"nats": ["/bin/nats", "--config", "a b"]})
    wanted = programs.replicas(programs.count_all("data_storage=3,objects=2"))

    groups = read(programs.add_services(base, settings, secrets, wanted), settings, listener)

    assert sorted(groups) == sorted(["nats", *NAMES, "objects-1", "data_storage-1", "data_storage-2"])
    for number, name in enumerate(["data_storage", "data_storage-1", "data_storage-2"]):
        [process] = groups[name].process_configs
        assert process.environment["AIDEVOS_REPLICA"] == str(number)
        assert process.environment["AIDEVOS_MONGO_URL"].startswith("mongodb://data_storage:")
        assert process.stdout_logfile == str(settings.home / "logs" / f"{name}.log")
    assert groups["nats"].process_configs[0].command == "/bin/nats --config 'a b'"


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (2, "1"), (8, "2"), (64, "16")])
def test_the_nats_server_gets_a_quarter_of_the_cores(
    settings: Settings,
    secrets: Secrets,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    threads: str,
) -> None:
    monkeypatch.delenv("GOMAXPROCS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: cores)

    groups = read(programs.render(settings.home, {"nats": ["/bin/nats"], "mongo": ["/bin/mongod"]}), settings, listener)

    assert groups["nats"].process_configs[0].environment["GOMAXPROCS"] == threads
    assert "GOMAXPROCS" not in groups["mongo"].process_configs[0].environment


def test_the_shell_decides_how_many_cores_the_nats_server_gets(
    settings: Settings, secrets: Secrets, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMAXPROCS", "3")

    groups = read(programs.render(settings.home, {"nats": ["/bin/nats"]}), settings, listener)

    assert groups["nats"].process_configs[0].environment["GOMAXPROCS"] == "3"


def test_replicas_that_are_no_longer_wanted_leave_the_configuration(
    settings: Settings, secrets: Secrets, listener: socket.socket
) -> None:
    base = programs.render(settings.home, {"nats": ["/bin/nats"]})
    before = programs.add_services(base, settings, secrets, [Replica("objects", 0), Replica("objects", STAND_IN)])

    groups = read(programs.add_services(before, settings, secrets, [Replica("objects", 0)]), settings, listener)

    assert sorted(groups) == ["nats", "objects"]


def test_all_gateways_accept_from_the_socket_that_the_supervisor_keeps(
    settings: Settings, secrets: Secrets, listener: socket.socket
) -> None:
    wanted = [Replica("http_gateway", 0), Replica("http_gateway", 1)]
    groups = read(
        programs.add_services(programs.render(settings.home, {}), settings, secrets, wanted), settings, listener
    )

    for replica in wanted:
        group = groups[replica.program]
        assert group.process_configs[0].command.endswith("services.http_gateway --fd 0")
        with group.socket_config.create_and_bind() as duplicate:
            assert duplicate.getsockname() == listener.getsockname()
    assert listener.fileno() >= 0


def test_a_password_may_contain_a_percent_sign(
    settings: Settings, secrets: Secrets, listener: socket.socket, tmp_path: Path
) -> None:
    settings = load({}, home=tmp_path, nats_url="nats://a:%40@127.0.0.1:1")
    base = programs.render(settings.home, {})

    groups = read(programs.add_services(base, settings, secrets, [Replica("objects", 0)]), settings, listener)

    assert groups["objects"].process_configs[0].environment["AIDEVOS_NATS_URL"] == settings.nats_url


def test_services_that_are_not_named_have_the_number_of_those_with_objects() -> None:
    counts = programs.count_all("objects=5,http_gateway=3", of_objects=2)

    others = {name: 2 for name in NAMES if name not in ("objects", "http_gateway", "task_worker")}
    assert counts == {**others, "objects": 5, "http_gateway": 3, "task_worker": 1}
    assert programs.count_all(programs.name_counts(counts)) == counts


@pytest.mark.parametrize("text", ["objects", "objects=0", "objects=65", "objects=x", "objects=-1", "objects=2=3", "=2"])
def test_a_wrong_number_of_processes_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_REPLICAS"):
        programs.count_all(load({"AIDEVOS_REPLICAS": text}).replicas)


def test_an_unknown_service_is_named_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"AIDEVOS_REPLICAS: 'object' is none of the services objects, "):
        programs.count_all("object=2")


def test_programs_start_after_the_servers_and_in_the_order_of_their_services() -> None:
    shuffled = ["unknown", "objects-1", "http_gateway", "objects", "mongo", "objects-10", "nats", "objects-2"]
    order = ["nats", "mongo", "objects", "objects-1", "objects-2", "objects-10", "http_gateway", "unknown"]

    assert sorted(shuffled, key=programs.start_order) == order


def test_what_depends_on_nothing_else_stops_at_once_and_servers_last() -> None:
    stopped: list[str] = []

    def group(name: str) -> Any:
        process = SimpleNamespace(pid=1, signal=lambda number: stopped.append(f"{name} {number.name}"))
        left = [process] if name == "events" else []
        return SimpleNamespace(
            config=SimpleNamespace(name=name),
            stop_all=lambda: stopped.append(name),
            get_unstopped_processes=lambda: left,
        )

    waves = []
    supervisor = FleetSupervisor.__new__(FleetSupervisor)
    programs = ["nats", "mongo", "objects", "objects-1", "events", "task_worker", "http_gateway", "http_gateway-1"]
    supervisor.stop_groups = [group(name) for name in programs]
    while supervisor.stop_groups:
        supervisor.ordered_stop_groups_phase_1()
        waves.append(" ".join(stopped))
        del supervisor.stop_groups[-max(1, len([name for name in stopped if " " not in name])) :]
        stopped.clear()

    # A process that SIGSTOP has stopped goes on, so that it can end.
    hosts = "objects objects-1 events events SIGCONT"
    assert waves == ["http_gateway http_gateway-1", "task_worker", hosts, "mongo", "nats"]
