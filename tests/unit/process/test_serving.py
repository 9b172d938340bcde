"""A service's process closes whatever it has opened, whatever fails on the way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aidevos import Backoff, DurableObjectClient, Failure, Service, resource
from aidevos.process import serving, stack
from aidevos.security.keys import ensure_signing_key
from aidevos.settings import Settings, SettingsError, load

EVENTS: list[str] = []


class Cable:
    """Stands for the connection to NATS, and for the bus on it."""

    def __init__(self, name: str, failing: bool = False) -> None:
        self.name = name
        self.failing = failing

    async def close(self) -> None:
        EVENTS.append(f"close {self.name}")
        if self.failing:
            raise OSError(f"{self.name} broke")

    async def subscribe(self, *args: Any, **options: Any) -> None: ...

    def new_inbox(self) -> str:
        return "_INBOX.x"


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
def bus(monkeypatch: pytest.MonkeyPatch) -> Cable:
    EVENTS.clear()
    bus = Cable("bus")

    async def connect(*args: Any, **options: Any) -> Cable:
        return Cable("connection")

    async def open_bus(*args: Any) -> Cable:
        if bus.failing:
            raise SettingsError("AIDEVOS_EVENT_BUS_URL: no answer")
        return bus

    monkeypatch.setattr(stack, "connect", connect)
    monkeypatch.setattr(stack, "open_bus", open_bus)
    return bus


async def stop_soon(pool: Pool) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.Event().wait()
    finally:
        EVENTS.append("chore ended")


async def test_resources_close_after_the_chores_and_before_the_connection(settings: Settings, bus: Cable) -> None:
    service = Service("task_worker", resources=[pool], chores=[stop_soon])

    await asyncio.wait_for(serving.serve(service, settings), 10)

    assert EVENTS == ["chore ended", "close pool", "close bus", "close connection"]
    # The name is free again.
    await asyncio.wait_for(serving.serve(service, settings), 10)


async def test_a_bus_that_fails_to_close_leaves_nothing_else_open(settings: Settings, bus: Cable) -> None:
    service = Service("task_worker", resources=[pool], chores=[stop_soon])
    bus.close = Cable("bus", failing=True).close  # type: ignore[method-assign]

    with pytest.raises(OSError, match="bus broke"):
        await asyncio.wait_for(serving.serve(service, settings), 10)

    assert EVENTS == ["chore ended", "close pool", "close bus", "close connection"]


async def test_a_bus_that_cannot_be_opened_closes_the_connection(settings: Settings, bus: Cable) -> None:
    bus.failing = True

    with pytest.raises(SettingsError, match="EVENT_BUS_URL"):
        await serving.serve(Service("task_worker", chores=[stop_soon]), settings)

    assert EVENTS == ["close connection"]


async def test_a_resource_that_cannot_be_opened_closes_everything_before_it(settings: Settings, bus: Cable) -> None:
    @resource
    async def broken(pool: Pool) -> AsyncIterator[int]:
        raise SettingsError("AIDEVOS_SMTP_URL: no answer")
        yield 0

    with pytest.raises(SettingsError, match="SMTP"):
        await serving.serve(Service("task_worker", resources=[pool, broken]), settings)

    assert EVENTS == ["close pool", "close bus", "close connection"]


async def test_preparation_is_repeated_until_it_succeeds(
    settings: Settings, bus: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "REJOIN", Backoff(0.0, 0.0))
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
    settings: Settings, bus: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHORES", Backoff(0.0, 0.0))
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
