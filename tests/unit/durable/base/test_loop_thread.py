"""A coroutine in another thread's loop goes on while this loop stands still."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aidevos.durable.base.loop_thread import LoopThread


async def test_work_goes_on_while_this_loop_stands_still() -> None:
    thread, done = LoopThread("test"), threading.Event()

    async def work() -> str:
        await asyncio.sleep(0.01)
        done.set()
        return threading.current_thread().name

    running = asyncio.create_task(thread.run(work()))
    await asyncio.sleep(0)

    assert done.wait(5)
    assert await running == "test"
    thread.close()


async def test_a_cancelled_caller_cancels_its_work() -> None:
    thread, begun, ended = LoopThread("test"), threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    running = asyncio.create_task(thread.run(work()))
    await asyncio.to_thread(begun.wait, 5)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(ended.wait, 5)
    thread.close()
