"""The overview of a fleet's processes: what each row says."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from aidevos.cli.main import main
from aidevos.contracts.health import PartProblem
from aidevos.process import overview
from aidevos.process.fleet import Fleet, FleetProcess
from aidevos.process.machine import read_usage
from aidevos.process.overview import Overview
from aidevos.process.presence import Presence, keep_present, open_presence
from aidevos.process.supervised import Supervised

SINCE = "2027-01-15T08:00:00.000Z"


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[Supervised]:
    """What the supervisor says."""
    found: list[Supervised] = []
    monkeypatch.setattr(overview, "read_programs", lambda home: found)
    return found


def write_fleet(home: Path, nats_port: int = 1, restarts: int = 0) -> None:
    fleet = Fleet(
        gateway_url="",
        public_url="",
        nats_url=f"nats://127.0.0.1:{nats_port}",
        nats_username="",
        nats_password="",
        mongo_url="",
        mongo_database="",
        admin_username="",
        admin_password="",
        processes=[FleetProcess("objects", 0, os.getpid(), restarts)],
    )
    (home / "fleet.json").write_bytes(msgspec.json.encode(fleet))


async def beat(home: Path, service: str, **said: object) -> list[overview.Row]:
    """Return the overview while this process is one of the service."""
    process = Presence(service=service, replica=0, pid=os.getpid(), since=time.time(), **said)  # type: ignore[arg-type]
    with open_presence(home, service) as file:
        writing = asyncio.create_task(keep_present(file, lambda: process))
        await asyncio.sleep(0)
        writing.cancel()
        return Overview(home).read()


async def test_a_service_shows_what_it_says_and_uses(tmp_path: Path, programs: list[Supervised]) -> None:
    write_fleet(tmp_path, restarts=2)
    programs.append(Supervised("objects", "running", os.getpid()))

    (row,) = await beat(tmp_path, "objects", types=["counter"], partitions={"counter": 64, "account": 3}, objects=7)

    assert (row.name, row.state, row.pid, row.restarts) == ("objects", "running", os.getpid(), 2)
    assert (row.types, row.partitions, row.objects, row.supervised) == (["counter"], 67, 7, True)
    assert row.memory > 1_000_000
    assert row.uptime > 0


async def test_a_service_that_is_not_well_says_why_and_since_when(tmp_path: Path, programs: list[Supervised]) -> None:
    write_fleet(tmp_path)
    programs.append(Supervised("objects", "running", os.getpid()))
    warning = PartProblem(part="event bus", detail="full", since=SINCE, status="warn")
    failure = PartProblem(part="MongoDB", detail="MongoDB doesn't answer", since=SINCE)

    (warned,) = await beat(tmp_path, "objects", problems=[warning])
    (failed,) = await beat(tmp_path, "objects", problems=[warning, failure])

    assert (warned.state, warned.detail, warned.since) == ("running", "full", SINCE)
    assert (failed.state, failed.detail, failed.since) == ("not well", "MongoDB doesn't answer", SINCE)


async def test_a_process_of_a_user_is_shown_too(tmp_path: Path, programs: list[Supervised]) -> None:
    (row,) = await beat(tmp_path, "task_worker", tasks=["send_mail"])

    assert (row.name, row.state, row.supervised, row.tasks) == ("task_worker", "running", False, ["send_mail"])


def test_a_process_that_is_stopped_is_not_shown_as_running(tmp_path: Path, programs: list[Supervised]) -> None:
    write_fleet(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        programs.append(Supervised("objects", "running", process.pid))
        (row,) = Overview(tmp_path).read()
        process.kill()

    assert (row.state, row.detail) == ("not answering", "it is stopped (SIGSTOP)")


def test_a_program_that_the_supervisor_does_not_run_has_the_supervisors_state(
    tmp_path: Path, programs: list[Supervised]
) -> None:
    write_fleet(tmp_path)
    programs.append(Supervised("events", "backoff", 0))

    (row,) = Overview(tmp_path).read()

    assert (row.state, row.pid, row.memory) == ("backoff", 0, 0)


async def test_a_server_is_asked_and_its_clients_know_since_when_it_is_silent(
    tmp_path: Path, programs: list[Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PROBE_WITHIN", 0.05)
    programs.append(Supervised("nats", "running", os.getppid()))
    lost = PartProblem(part="NATS", detail="NATS doesn't answer", since=SINCE)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write_fleet(tmp_path, silent.getsockname()[1])
        rows = await beat(tmp_path, "objects", problems=[lost])

    assert (rows[0].name, rows[0].state, rows[0].since) == ("nats", "not answering", SINCE)


def test_without_a_fleet_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path))

    assert main(["ps"]) == 1
    assert "make up" in capsys.readouterr().err


def test_the_kernel_tells_what_a_process_uses() -> None:
    usage = read_usage(os.getpid())

    assert usage is not None
    assert usage.parent == os.getppid()
    assert 0 < usage.cpu < 3600
    assert usage.since <= time.time()
    assert read_usage(2**22 + 1) is None
    assert sys.executable
