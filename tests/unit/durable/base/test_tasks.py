"""Background tasks: they end when they are stopped, and their failures are seen."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aidevos.durable.base import tasks
from aidevos.durable.base.tasks import BackgroundTasks, cancel_and_wait, restart_on_failure


async def test_a_task_that_misses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_AFTER", 0.01)
    missed = asyncio.Event()

    async def miss_one() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if missed.is_set():
                    raise
                missed.set()

    task = asyncio.create_task(miss_one())
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await cancel_and_wait([task])

    assert missed.is_set()
    assert task.cancelled()


async def test_closing_waits_until_every_task_has_ended() -> None:
    background, ended = BackgroundTasks(), []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    for number in range(3):
        background.spawn(work(number))
    await asyncio.sleep(0)
    await background.close()

    assert sorted(ended) == [0, 1, 2]
    assert background.running == 0


async def test_a_task_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    background = BackgroundTasks()

    async def fail() -> None:
        raise RuntimeError("a bug")

    with caplog.at_level(logging.ERROR):
        background.spawn(fail())
        while background.running:  # noqa: ASYNC110
            await asyncio.sleep(0)

    assert "a background task failed" in caplog.text


async def test_work_that_fails_is_logged_and_runs_again_until_it_returns(caplog: pytest.LogCaptureFixture) -> None:
    runs = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                raise KeyError("a bug")

    async with asyncio.timeout(5):
        await restart_on_failure(work)

    assert runs == [0, 1]
    assert "a bug" in caplog.text


async def test_work_that_is_cancelled_does_not_run_again() -> None:
    runs = []

    async def work() -> None:
        runs.append(len(runs))
        await asyncio.sleep(60)

    task = asyncio.create_task(restart_on_failure(work))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cancel_and_wait([task])

    assert (runs, task.cancelled()) == ([0], True)
