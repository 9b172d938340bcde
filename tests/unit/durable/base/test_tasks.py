"""Background tasks: they end when they are stopped, and their failures are seen."""

from __future__ import annotations

import asyncio
import logging

import pytest

from aidevos.durable.base import tasks
from aidevos.durable.base.tasks import BackgroundTasks, cancel_and_wait, restart_on_failure, run_together
from tests.support.kits import quiet, until


async def miss_one(missed: asyncio.Event) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if missed.is_set():
                raise
            missed.set()


async def test_a_task_that_misses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_AFTER", 0.01)
    missed = asyncio.Event()
    task = asyncio.create_task(miss_one(missed))
    await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await cancel_and_wait([task])

    assert missed.is_set()
    assert task.cancelled()


async def test_works_that_run_together_end_although_one_misses_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_AFTER", 0.01)
    missed = asyncio.Event()
    before = asyncio.all_tasks()
    task = asyncio.create_task(run_together(miss_one(missed), asyncio.sleep(60)))
    await quiet()

    async with asyncio.timeout(5):
        await cancel_and_wait([task])
    await until(lambda: asyncio.all_tasks() == before)

    assert missed.is_set()


async def test_if_one_of_several_works_fails_the_others_end() -> None:
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await other

    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await run_together(wait(), fail())

    assert other.cancelled()


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
