"""Background tasks and their cancellation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from aidevos.durable.base.backoff import FOLLOWING

log = logging.getLogger(__name__)
# Seconds after which a task that is still running is cancelled again.
CANCEL_AGAIN_AFTER = 5.0


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when all of them have ended. Drop the exceptions that they raise.

    A task can miss a cancellation: in Python 3.11, `asyncio.wait_for` swallows one that arrives together with its
    result. Tasks that keep running are therefore cancelled again.
    """
    pending = {task for task in tasks if task is not asyncio.current_task()}
    while pending:
        for task in pending:
            task.cancel()
        try:
            done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_AFTER)
        except asyncio.CancelledError:
            for task in pending:
                task.cancel()
            raise
        for task in done:
            if not task.cancelled():
                task.exception()


async def run_together(*works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until all have ended or one fails, and then end the others. Raises what the failed one raised.

    A task group cancels its tasks only once, and then waits for one that has missed that for ever.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await cancel_and_wait(tasks)


async def restart_on_failure(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work until it returns. If it fails, log the failure and run it again after a pause."""
    pauses = FOLLOWING.pauses()
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed, restarting it", getattr(work, "__qualname__", work))
            await pauses.wait()
        else:
            return


class BackgroundTasks:
    """Tasks that stay referenced until they end or `close` cancels them. Failures are logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """The number of running tasks."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine as a task."""
        self.track(asyncio.get_running_loop().create_task(work))

    def track(self, task: asyncio.Task[None]) -> None:
        """Adopt a task that is already running."""
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        await cancel_and_wait(list(self._tasks))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())
