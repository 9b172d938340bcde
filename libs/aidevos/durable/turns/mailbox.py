"""One turn at a time: the requests of one object, in the order in which they came.

Commands run one after another. Queries run beside each other, but never beside a command, so a
query sees the state between turns. A method that can't wait runs to its end inside `pump`, without
a task; any other gets a task, and the mailbox goes on when that has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from aidevos.contracts.errors import Failure
from aidevos.durable.turns.request import Request

Start = Callable[[Request], "asyncio.Task[None] | None"]


class Mailbox:
    """`start` begins a turn and returns its task if it could not end it at once. It is held at first."""

    def __init__(self, limit: int, start: Start) -> None:
        self._limit = limit
        self._start = start
        self._queue: deque[Request] = deque()
        self._queries: set[asyncio.Task[None]] = set()
        self._command: asyncio.Task[None] | None = None
        self._holds = 1
        self._pumping = False

    def put(self, request: Request) -> None:
        """Queue a request and run what can run; raises `overloaded`."""
        if len(self._queue) >= self._limit:
            raise Failure("overloaded", f"{self._limit} requests wait for this object already", retry_after=1.0)
        self._queue.append(request)
        self.pump()

    def hold(self) -> None:
        """Start no further turn until `release` was called as often."""
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        self.pump()

    def pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and not self._holds and self._command is None:
                is_command = self._queue[0].method.is_command
                if is_command and self._queries:
                    return
                task = self._start(self._queue.popleft())
                if task is not None:
                    self._watch(task, is_command)
        finally:
            self._pumping = False

    def put_back(self, request: Request) -> None:
        """Make a request the next one again: its turn has to wait for something."""
        self._queue.appendleft(request)

    def waiting(self) -> Iterator[Request]:
        return iter(self._queue)

    def close(self) -> list[Request]:
        """Stop for good: cancels running turns and returns the requests that were not started."""
        self._holds += 1
        # What would start turns holds on to this mailbox: without it both leave memory at once.
        self._start = _start_nothing
        left = list(self._queue)
        self._queue.clear()
        for task in [self._command, *self._queries]:
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        return left

    @property
    def idle(self) -> bool:
        return not (self._queue or self._queries or self._command)

    def _watch(self, task: asyncio.Task[None], is_command: bool) -> None:
        if is_command:
            self._command = task
        else:
            self._queries.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is self._command:
            self._command = None
        self._queries.discard(task)
        self.pump()


def _start_nothing(request: Request) -> None:
    raise RuntimeError("a mailbox that was closed starts no turn")
