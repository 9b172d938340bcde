"""Tasks that run beside whoever started them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

log = logging.getLogger(__name__)
# Seconds after which a task that goes on is cancelled once more.
CANCEL_AGAIN_AFTER = 5.0


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and return when all have ended; what they raise is dropped.

    A task may miss a cancellation: `asyncio.wait_for` of Python 3.11 swallows one that comes together with its result.
    So those that go on are cancelled again.
    """
    pending = {task for task in tasks if task is not asyncio.current_task()}
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_AFTER)
        for task in done:
            if not task.cancelled():
                task.exception()


class BackgroundTasks:
    """Keeps tasks alive until they end or `close` cancels them; logs the ones that fail."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many tasks run."""
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine as a task."""
        self.track(asyncio.get_running_loop().create_task(work))

    def track(self, task: asyncio.Task[None]) -> None:
        """Look after a task that runs already."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        await cancel_and_wait(list(self._tasks))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a background task failed", exc_info=task.exception())
