"""The local fleet from `up` to `down`, for a user of `make up` and an operator with `kill -9`."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pymongo
import pytest

from aidevos.process.fleet import fleet_settings
from aidevos.process.vulnerabilities import known
from aidevos.settings import SettingsError
from deploy.local import programs
from tests.support.local_fleet import LocalFleet, environment
from tests.support.servers import Servers

pytestmark = pytest.mark.timeout(180)
SERVICES = [service.name for service in programs.SERVICES]


def eventually(condition: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


def ready(fleet: LocalFleet) -> bool:
    try:
        with urllib.request.urlopen(f"{fleet.read()['gateway_url']}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def home() -> Iterator[LocalFleet]:
    """The fleet of all tests that may have it up as it is."""
    # So that a killed gateway leaves workers behind.
    shared = LocalFleet(AIDEVOS_WORKERS="2")
    try:
        yield shared
    finally:
        shared.close()


@pytest.fixture
def fleet(home: LocalFleet) -> LocalFleet:
    """A fleet that is up, and whose processes are well; a test may leave it down."""
    if not home.is_up():
        home.up()
    # Services that have just started still prepare themselves for a moment.
    eventually(lambda: {row["state"] for row in ps(home).values()} == {"running"}, 20.0)
    return home


@pytest.fixture
def new_fleet() -> Iterator[Callable[..., LocalFleet]]:
    made: list[LocalFleet] = []

    def make(**variables: str) -> LocalFleet:
        made.append(LocalFleet(**variables))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_fleet_json_tells_everything_that_a_script_needs(fleet: LocalFleet) -> None:
    told = fleet.read()
    assert stat.S_IMODE((fleet.home / "fleet.json").stat().st_mode) == 0o600
    assert set(told) == {
        "gateway_url",
        "public_url",
        "nats_url",
        "nats_username",
        "nats_password",
        "mongo_url",
        "mongo_database",
        "event_bus_url",
        "admin_username",
        "admin_password",
        "processes",
    }
    assert [process["name"] for process in told["processes"]] == ["nats", "mongo", *SERVICES]
    assert all(process["replica"] == 0 for process in told["processes"])
    assert set(fleet.pids().values()) < set(fleet.processes())
    assert told["nats_username"] == "client"
    assert "@" not in told["nats_url"]
    with urllib.request.urlopen(f"{told['gateway_url']}/health/ready", timeout=5) as answer:
        assert answer.status == 200
    with pymongo.MongoClient[dict[str, Any]](told["mongo_url"]) as client:
        client[told["mongo_database"]].scratch.insert_one({})


def test_up_warns_about_a_server_with_known_vulnerabilities(fleet: LocalFleet) -> None:
    with pymongo.MongoClient[dict[str, Any]](fleet.read()["mongo_url"]) as client:
        major, minor, patch, _ = client.server_info()["versionArray"]
    found = known("MongoDB", (major, minor, patch))
    assert all(id in fleet.warnings for id in found)
    assert ("warning: MongoDB" in fleet.warnings) == bool(found)


def test_nothing_that_a_fleet_writes_is_readable_by_others(fleet: LocalFleet) -> None:
    assert [path for path in fleet.home.iterdir() if path.is_dir() and path.stat().st_mode & 0o077] == []
    secret = ("secrets.json", "fleet.json", "supervisord.conf", "nats/nats.conf", "mongo/key", "keys/signing.json")
    assert [name for name in secret if (fleet.home / name).stat().st_mode & 0o077] == []


def test_up_again_says_so(fleet: LocalFleet) -> None:
    before = fleet.pids()
    again = fleet.aidevos("up")
    assert again.returncode == 0
    assert "already up" in again.stdout
    assert again.stdout.rstrip().endswith(fleet.read()["gateway_url"])
    assert fleet.pids() == before


def test_ps_and_logs_show_every_process(fleet: LocalFleet) -> None:
    shown = fleet.run("ps").stdout
    logged = {line["service"] for line in fleet.logs("-n", "100000")}
    for name in fleet.pids():
        assert name in shown
    assert fleet.pids().keys() - logged <= {"http_gateway", "task_worker"}


def ps(fleet: LocalFleet) -> dict[str, dict[str, Any]]:
    """Return the rows of `aidevos ps` by name."""
    shown = fleet.aidevos("ps", "--json")
    assert shown.returncode == 0, shown.stderr
    return {row["name"]: row for row in json.loads(shown.stdout)}


def test_ps_shows_a_stopped_process_as_not_answering_since_then(fleet: LocalFleet) -> None:
    before = ps(fleet)
    os.kill(before["task_worker"]["pid"], signal.SIGSTOP)
    try:
        stopped = eventually(lambda: (row := ps(fleet)["task_worker"])["since"] and row, 20.0)
        shown = fleet.run("ps").stdout
    finally:
        os.kill(before["task_worker"]["pid"], signal.SIGCONT)

    assert {row["state"] for row in before.values()} == {"running"}
    assert before["objects"]["partitions"] == 64 * len(before["objects"]["types"])
    assert stopped["state"] == "not answering"
    assert stopped["detail"] == "it is stopped (SIGSTOP)"
    assert "not answering" in next(line for line in shown.splitlines() if line.startswith("task_worker"))
    eventually(lambda: ps(fleet)["task_worker"]["state"] == "running", 20.0)


def test_the_doctor_finds_a_fleet_as_made_by_make_up_without_errors(fleet: LocalFleet) -> None:
    examined = fleet.aidevos("doctor", "--json")

    findings = json.loads(examined.stdout)
    assert [finding for finding in findings if finding["status"] in ("error", "skipped")] == []
    assert examined.returncode == max(finding["status"] == "warning" for finding in findings)
    (clocks,) = (finding["detail"] for finding in findings if finding["check"] == "clocks")
    hosts = [service for service in programs.SERVICES if service.stores]
    assert clocks == f"{2 + len(hosts)} clocks agree with this machine's"


@pytest.mark.parametrize("name", [*SERVICES, "nats", "mongo"])
def test_a_killed_process_is_back_within_a_second(fleet: LocalFleet, name: str) -> None:
    before = fleet.pids()[name]
    os.kill(before, signal.SIGKILL)
    after = eventually(lambda: (pid := fleet.pids().get(name)) != before and pid, 1.0)
    eventually(lambda: after in fleet.processes(), 1.0)
    assert "already up" in fleet.recover()


def test_the_workers_of_a_killed_gateway_do_not_keep_its_port(fleet: LocalFleet) -> None:
    before = fleet.pids()["http_gateway"]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: fleet.pids().get("http_gateway", before) != before, 1.0)
    eventually(lambda: ready(fleet), 10.0)
    assert fleet.run("ps").stdout.count("backoff") == 0


def test_a_process_can_join_the_fleet_with_the_rights_of_a_service(fleet: LocalFleet) -> None:
    settings = fleet_settings(fleet.home, "objects")
    assert settings.nats_url.startswith("nats://objects:")
    assert settings.mongo_url.startswith("mongodb://objects:")
    assert settings.home == fleet.home
    with pytest.raises(SettingsError, match="no service"):
        fleet_settings(fleet.home, "nonsense")


def test_every_service_uses_a_database_user_of_its_own(fleet: LocalFleet) -> None:
    for service in programs.SERVICES:
        variables = dict(line.split(b"=", 1) for line in environment(fleet.pids()[service.name]) if b"=" in line)
        url = variables[b"AIDEVOS_MONGO_URL"].decode()
        assert url.startswith(f"mongodb://{service.name}:") if service.stores else url == ""


@pytest.mark.parametrize("variable", ["AIDEVOS_PORT", "AIDEVOS_NATS_PORT", "AIDEVOS_MONGO_PORT"])
def test_a_port_that_another_fleet_has_is_named_with_its_variable(
    fleet: LocalFleet, new_fleet: Callable[..., LocalFleet], variable: str
) -> None:
    refused = new_fleet(**{variable: fleet.environment[variable]}).run("up")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"set {variable}" in refused.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AIDEVOS_PORT", "eighty"),
        ("AIDEVOS_HOST", "no.such.host.invalid"),
        ("AIDEVOS_HOME", "/proc/nowhere"),
        ("AIDEVOS_HOME", "/tmp/" + "long" * 25),
        ("AIDEVOS_NATS_URL", "nats://127.0.0.1:1"),
        ("AIDEVOS_EVENT_BUS_URL", "amqp://127.0.0.1:1"),
        ("AIDEVOS_EVENT_BUS_URL", "nonsense"),
        ("AIDEVOS_MONGO_URL", "mongodb://127.0.0.1:1"),
        ("AIDEVOS_MONGO_URL", "nonsense"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    new_fleet: Callable[..., LocalFleet], variable: str, value: str
) -> None:
    refused = new_fleet(**{variable: value}).run("up")
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.count("\n") == 1
    assert variable in refused.stderr


def test_a_missing_server_is_one_line_that_says_what_to_install(new_fleet: Callable[..., LocalFleet]) -> None:
    fleet = new_fleet(PATH="/nowhere")
    bare = "import sys, deploy.local.binaries as b; b._mongo_candidates = lambda: iter(()); "
    script = bare + "sys.argv[1:] = ['up']; from deploy.local.__main__ import main; sys.exit(main())"
    refused = subprocess.run([sys.executable, "-c", script], env=fleet.environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "AIDEVOS_MONGO_URL" in refused.stderr


def test_down_leaves_no_process_when_the_supervisor_was_killed_and_up_finds_everything_again(
    fleet: LocalFleet,
) -> None:
    before = fleet.read()
    scratch_of(before).insert_one({"_id": "kept after a kill"})
    os.kill(fleet.supervisor(), signal.SIGKILL)
    assert len(eventually(fleet.processes, 1.0)) >= 4
    assert "make up" in fleet.run("ps").stderr
    down = fleet.aidevos("down")
    assert down.returncode == 0
    assert fleet.processes() == []

    after = fleet.up().read()
    assert {**after, "processes": None} == {**before, "processes": None}
    assert scratch_of(after).find_one({"_id": "kept after a kill"}) is not None


def test_up_replaces_what_a_killed_supervisor_has_left(fleet: LocalFleet) -> None:
    left = fleet.processes()
    os.kill(fleet.supervisor(), signal.SIGKILL)
    fleet.up()
    assert not set(left) & set(fleet.processes())


def test_down_ends_what_an_interrupted_up_has_begun(new_fleet: Callable[..., LocalFleet]) -> None:
    fleet = new_fleet()
    launcher = fleet.start("up")
    eventually(lambda: (fleet.home / "fleet.json").exists() and "nats" in fleet.pids(), 20.0)
    launcher.kill()
    launcher.communicate()
    assert fleet.processes() != []
    assert fleet.run("down").returncode == 0
    assert fleet.processes() == []


def test_down_ends_all_processes_of_the_fleet_and_signals_no_other(fleet: LocalFleet) -> None:
    """After a reboot, the files name PIDs that now belong to other processes."""
    scratch_of(fleet.read()).insert_one({"_id": "kept"})
    told, mark = ((fleet.home / name).read_bytes() for name in ("fleet.json", "mark"))
    down = fleet.aidevos("down")
    assert down.returncode == 0
    assert fleet.processes() == []
    with pytest.raises(SettingsError, match="make up"):
        fleet_settings(fleet.home, "objects")
    with subprocess.Popen(["sleep", "60"]) as stranger:
        for process in (found := json.loads(told))["processes"]:
            process["pid"] = stranger.pid
        (fleet.home / "fleet.json").write_text(json.dumps(found))
        (fleet.home / "mark").write_bytes(mark)
        (fleet.home / "supervisor.pid").write_text(str(stranger.pid))
        down = fleet.aidevos("down")
        assert down.returncode == 0
        assert "No fleet is up" in down.stdout
        assert stranger.poll() is None
        stranger.kill()

    assert scratch_of(fleet.up().read()).find_one({"_id": "kept"}) is not None


def scratch_of(told: Any) -> Any:
    """Return a collection of the test's own in the database of a fleet."""
    return pymongo.MongoClient[dict[str, Any]](told["mongo_url"])[told["mongo_database"]].scratch


@pytest.fixture
def elsewhere() -> Iterator[Servers]:
    """Start servers that no other test sees, because a whole fleet leaves its types in them."""
    servers = Servers()
    try:
        servers.start()
        yield servers
    finally:
        servers.close()


def test_servers_that_are_run_elsewhere_are_used_and_not_started(
    elsewhere: Servers, new_fleet: Callable[..., LocalFleet]
) -> None:
    nats_url = elsewhere.nats_url("fleet")
    fleet = new_fleet(AIDEVOS_NATS_URL=nats_url, AIDEVOS_MONGO_URL=elsewhere.mongo_url).up()
    told = fleet.read()
    assert [process["name"] for process in told["processes"]] == SERVICES
    assert told["nats_username"] == "fleet"
    assert told["mongo_url"] == elsewhere.mongo_url
    assert fleet_settings(fleet.home, "objects").nats_url == nats_url
    with socket.create_connection(("127.0.0.1", int(nats_url.rpartition(":")[2])), timeout=2):
        assert "@" not in told["nats_url"]
