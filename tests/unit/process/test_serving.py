"""A service's process closes everything that it has opened, whatever fails on the way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aidevos import Backoff, DurableObjectClient, Failure, Service, resource
from aidevos.process import service_work, serving
from aidevos.process.answering import POLL
from aidevos.process.stopping import LEAVE_LOST_WITHIN
from aidevos.security.keys import ensure_signing_key
from aidevos.settings import Settings, SettingsError, load
from services.objects.counter import Counter
from tests.support.fake_connections import FakeConnections, install_fakes
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.servers import free_port

EVENTS: list[str] = []


class Pool:
    pass


@resource
async def pool() -> AsyncIterator[Pool]:
    yield Pool()
    EVENTS.append("close pool")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    ensure_signing_key(tmp_path)
    return load({}, home=tmp_path)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> FakeConnections:
    EVENTS.clear()
    connections = install_fakes(monkeypatch)
    connections.events = EVENTS
    return connections


async def stop_soon(pool: Pool) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.Event().wait()
    finally:
        EVENTS.append("chore ended")


async def test_resources_close_after_the_chores_and_before_the_connection(
    settings: Settings, connections: FakeConnections
) -> None:
    service = Service("task_worker", resources=[pool], chores=[stop_soon])

    await asyncio.wait_for(serving.serve(service, settings), 10)

    assert EVENTS == ["chore ended", "close pool", "close bus", "close connection"]
    # The name is available again.
    await asyncio.wait_for(serving.serve(service, settings), 10)


async def test_a_bus_that_fails_to_close_leaves_nothing_else_open(
    settings: Settings, connections: FakeConnections
) -> None:
    service = Service("task_worker", resources=[pool], chores=[stop_soon])
    connections.bus_fails_to_close = True

    with pytest.raises(OSError, match="bus broke"):
        await asyncio.wait_for(serving.serve(service, settings), 10)

    assert EVENTS == ["chore ended", "close pool", "close bus", "close connection"]


async def test_a_bus_that_cannot_be_opened_closes_the_connection(
    settings: Settings, connections: FakeConnections
) -> None:
    connections.bus_fails_to_open = True

    with pytest.raises(SettingsError, match="EVENT_BUS_URL"):
        await serving.serve(Service("task_worker", chores=[stop_soon]), settings)

    assert EVENTS == ["close connection"]


async def test_a_resource_that_cannot_be_opened_closes_everything_before_it(
    settings: Settings, connections: FakeConnections
) -> None:
    @resource
    async def broken(pool: Pool) -> AsyncIterator[int]:
        raise SettingsError("AIDEVOS_SMTP_URL: no answer")
        yield 0

    with pytest.raises(SettingsError, match="SMTP"):
        await serving.serve(Service("task_worker", resources=[pool, broken]), settings)

    assert EVENTS == ["close pool", "close bus", "close connection"]


async def test_a_fleet_that_hosts_cannot_join_leaves_nothing_open(
    settings: Settings, connections: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_partitions(connection: Any) -> int:
        return 64

    async def check_mapping(connection: Any, partitions: int) -> None:
        raise SettingsError("AIDEVOS_NATS_URL: the server doesn't map subjects")

    monkeypatch.setattr(serving, "read_partitions", read_partitions)
    monkeypatch.setattr(serving, "check_mapping", check_mapping)

    with pytest.raises(SettingsError, match="map subjects"):
        await serving.serve(Service("objects", types=[Counter]), settings)

    assert EVENTS == ["close bus", "close connection"]


async def test_preparation_is_repeated_until_it_succeeds(
    settings: Settings, connections: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_work, "PREPARE", Backoff(0.0, 0.0))
    attempts = 0

    async def prepare(objects: DurableObjectClient, pool: Pool) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Failure("unavailable", "not yet") if attempts == 1 else RuntimeError("a mistake")
        os.kill(os.getpid(), signal.SIGTERM)

    await asyncio.wait_for(serving.serve(Service("task_worker", resources=[pool], prepare=prepare), settings), 10)

    assert attempts == 3


async def test_a_chore_begins_again_when_it_returns_or_fails(
    settings: Settings, connections: FakeConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_work, "CHORES", Backoff(0.0, 0.0))
    begun = 0

    async def chore() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise RuntimeError("a mistake")
        if begun == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    await asyncio.wait_for(serving.serve(Service("task_worker", chores=[chore]), settings), 10)

    assert begun >= 3


@pytest.mark.parametrize("part", ["prepare", "chores"])
def test_what_nothing_provides_ends_the_process_with_a_line(capsys: pytest.CaptureFixture[str], part: str) -> None:
    async def work(pool: Pool) -> None: ...

    service = Service("task_worker", **{part: work if part == "prepare" else [work]})  # type: ignore[arg-type]

    with pytest.raises(SystemExit) as ended:
        serving.run(service)

    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("aidevos: ")
    assert said.count("\n") == 1
    assert "work" in said
    assert "Pool" in said


async def test_a_process_without_objects_is_ready_once_it_is_prepared(
    settings: Settings, connections: FakeConnections
) -> None:
    answers: list[str] = []
    settings = msgspec.structs.replace(settings, probe_port=free_port())

    async def ask() -> str:
        async with http_client(base_url=f"http://127.0.0.1:{settings.probe_port}") as http:
            problems = (await http.get("/health/ready")).json()["problems"]
            return "".join(problem["detail"] for problem in problems if problem["status"] == "fail")

    async def is_ready() -> bool:
        return await ask() == ""

    async def prepare() -> None:
        answers.append(await ask())

    async def stop_once_ready() -> None:
        await eventually(is_ready)
        answers.append(await ask())
        os.kill(os.getpid(), signal.SIGTERM)

    service = Service("task_worker", prepare=prepare, chores=[stop_once_ready])
    await asyncio.wait_for(serving.serve(service, settings), 10)

    assert answers == ["it is being prepared", ""]


async def test_a_process_whose_work_ends_slowly_leaves_soon_if_it_has_lost_nats(
    settings: Settings, connections: FakeConnections
) -> None:
    left: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        connections.is_connected = False
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            # As a worker with a task that runs on.
            await left

    service = Service("task_worker", chores=[work])
    await asyncio.wait_for(serving.serve(service, settings, leave=left.set_result), 10)

    assert left.result() == LEAVE_LOST_WITHIN


async def test_a_process_that_has_lost_nothing_takes_the_time_that_its_work_needs(
    settings: Settings, connections: FakeConnections
) -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2 * POLL)
            EVENTS.append("work ended")

    service = Service("task_worker", chores=[work])
    await asyncio.wait_for(serving.serve(service, settings, leave=lambda _: EVENTS.append("left")), 10)

    assert EVENTS == ["work ended", "close bus", "close connection"]
