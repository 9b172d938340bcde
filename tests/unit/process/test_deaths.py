"""The recorded deaths of processes, and their reports."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aidevos.durable.base.backoff import Backoff
from aidevos.durable.bus.memory import MemoryBus
from aidevos.durable.bus.port import BusError, OrderConflict
from aidevos.observability.metrics import PROCESS_DEATHS
from aidevos.process import death_reports, deaths
from aidevos.process.death_reports import report_deaths, reporting_deaths
from aidevos.process.deaths import expect, noticing_death, record, services_of, waiting
from tests.support.kits import until


class Bus(MemoryBus):
    """A bus that raises these errors first."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def publish(self, *args: Any, **options: Any) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return await super().publish(*args, **options)


@pytest.fixture(autouse=True)
def _alone_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(deaths.SUPERVISED, raising=False)
    for name in ("FOLLOWING", "CONFLICT"):
        monkeypatch.setattr(death_reports, name, Backoff(0.001, 0.001))
    for name in ("LOOK_EVERY", "TAKE_OVER_EVERY"):
        monkeypatch.setattr(death_reports, name, 0.001)


@asynccontextmanager
async def reporting(home: Path, bus: MemoryBus) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(report_deaths(home, bus))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_deaths_are_counted_by_replica_and_described(tmp_path: Path) -> None:
    expect(tmp_path, "quiet", 0)
    described = [
        str(record(tmp_path, "objects", 0, signal="SIGKILL", seconds=12.34)),
        str(record(tmp_path, "objects", 1, status=70, seconds=0.5)),
        str(record(tmp_path, "objects", 0)),
    ]

    assert described == [
        "objects died after 12.3 s, killed by SIGKILL; deaths so far: 1",
        "objects-1 died after 0.5 s, with exit status 70; deaths so far: 1",
        "objects died, it is unknown how; deaths so far: 2",
    ]
    expect(tmp_path, "objects", 0)
    assert record(tmp_path, "objects", 0).deaths == 3
    assert services_of(tmp_path) == {"objects", "quiet"}
    assert [death.signal for _, death in waiting(tmp_path)] == ["SIGKILL", "", "", ""]


def test_further_deaths_are_only_counted_when_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "MOST_WAITING", 2)

    for _ in range(5):
        record(tmp_path, "objects", 0)

    assert len(waiting(tmp_path)) == 2
    assert record(tmp_path, "objects", 0).deaths == 6


def test_files_that_a_power_cut_has_spoilt_stop_nothing(tmp_path: Path) -> None:
    record(tmp_path, "objects", 0)
    folder = deaths.folder_of(tmp_path)
    (folder / "000.json").write_text('{"service":')
    (folder / "objects-1.count").write_text("\0\0")

    assert len(waiting(tmp_path)) == 1
    assert not (folder / "000.json").exists()
    assert record(tmp_path, "objects", 1).deaths == 1


def test_a_process_that_ends_in_order_leaves_no_death(tmp_path: Path) -> None:
    for _ in range(2):
        with noticing_death(tmp_path, "objects", 0) as death:
            assert death is None


CHILD = """
import sys, time
from pathlib import Path
from aidevos.process.deaths import noticing_death
with noticing_death(Path(sys.argv[1]), "objects", 0):
    print(flush=True)
    time.sleep(60)
"""


def test_a_process_notices_that_its_predecessor_was_killed_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with noticing_death(tmp_path, "objects", 0) as beside:
            assert beside is None
        child.send_signal(signal.SIGKILL)

    with noticing_death(tmp_path, "objects", 0) as death:
        assert death is not None
        assert (death.service, death.replica, death.deaths) == ("objects", 0, 1)
    with noticing_death(tmp_path, "objects", 0) as again:
        assert again is None


def test_a_process_that_ends_with_an_error_is_noticed_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), noticing_death(tmp_path, "objects", 0):
        raise ValueError("bad")

    with noticing_death(tmp_path, "objects", 0) as death:
        assert death is not None


def test_a_supervised_process_leaves_that_to_its_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(deaths.SUPERVISED, "1")
    with pytest.raises(ValueError, match="bad"), noticing_death(tmp_path, "objects", 0):
        raise ValueError("bad")

    with noticing_death(tmp_path, "objects", 0) as death:
        assert death is None
    assert not (tmp_path / "run").exists()


async def test_each_death_is_published_in_order_and_counted(tmp_path: Path) -> None:
    bus, before = Bus(), PROCESS_DEATHS.labels("till").value
    record(tmp_path, "till", 0, signal="SIGSEGV", seconds=1.5)

    async with reporting(tmp_path, bus):
        await until(lambda: not waiting(tmp_path))
        record(tmp_path, "till", 3, status=2)
        await until(lambda: not waiting(tmp_path))
        await until(lambda: PROCESS_DEATHS.labels("till").value == before + 2)

    assert [event.subject for event in bus.events] == ["event.fleet.till.process_died"] * 2
    first, second = (json.loads(event.payload) for event in bus.events)
    assert first["type"] == "fleet.process_died"
    assert first["data"] == {"replica": 0, "signal": "SIGSEGV", "status": None, "seconds": 1.5, "deaths": 1}
    assert second["data"] == {"replica": 3, "signal": "", "status": 2, "seconds": None, "deaths": 1}
    assert first["id"] != second["id"]


async def test_a_death_waits_until_the_bus_is_back_and_is_published_once(tmp_path: Path) -> None:
    bus, before = Bus(*[BusError("down")] * 50, OrderConflict()), PROCESS_DEATHS.labels("till").value
    record(tmp_path, "till", 0)

    async with reporting(tmp_path, bus):
        await until(lambda: len(bus.errors) < 40)
        record(tmp_path, "till", 1)
        await until(lambda: PROCESS_DEATHS.labels("till").value == before + 2)
        assert bus.events == []
        await until(lambda: not waiting(tmp_path))

    assert len(bus.events) == 2
    assert PROCESS_DEATHS.labels("till").value == before + 2


async def test_a_death_whose_acknowledgement_was_lost_is_not_published_again(tmp_path: Path) -> None:
    bus = Bus()
    record(tmp_path, "till", 0)
    ((path, _),) = waiting(tmp_path)
    content = path.read_bytes()

    async with reporting(tmp_path, bus):
        await until(lambda: not path.exists())
        path.write_bytes(content)
        await until(lambda: not path.exists())

    assert len(bus.events) == 1


async def test_another_process_takes_over_when_the_one_that_reports_has_ended(tmp_path: Path) -> None:
    stuck, bus = Bus(*[BusError("down")] * 1_000_000), Bus()

    async with reporting(tmp_path, stuck) as first, reporting(tmp_path, bus):
        record(tmp_path, "till", 0)
        await until(lambda: len(stuck.errors) < 999_990)
        assert (stuck.events, bus.events) == ([], [])
        first.cancel()
        await until(lambda: not waiting(tmp_path))

    assert len(bus.events) == 1


async def test_an_unsupervised_process_reports_the_death_of_its_predecessor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (deaths.folder_of(tmp_path) / "till-0.alive").write_text("1\n")
    bus = Bus()

    async with reporting_deaths(tmp_path, "till", 0, bus):
        await until(lambda: len(bus.events) == 1)

    (line,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert line.getMessage() == "till died, it is unknown how; deaths so far: 1"
    assert (deaths.folder_of(tmp_path) / "till-0.alive").read_text() == ""


async def test_a_home_that_can_not_be_written_to_stops_no_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("in the way")

    async with reporting_deaths(tmp_path, "till", 0, Bus()):
        assert "can't be recorded" in caplog.text


async def test_deaths_at_nearly_the_same_moment_are_all_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([1000.0000005, 1000.0000025, 1000.0000045])
    monkeypatch.setattr(deaths.time, "time", lambda: next(moments))
    for replica in (2, 0, 1):
        record(tmp_path, "till", replica, signal="SIGKILL")
    monkeypatch.undo()
    bus = Bus()

    async with reporting(tmp_path, bus):
        await until(lambda: not waiting(tmp_path))

    assert [json.loads(event.payload)["data"]["replica"] for event in bus.events] == [2, 0, 1]
