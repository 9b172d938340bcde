"""The mailbox of one object, which runs its requests in the order of their arrival.

Promise: commands run one at a time. Queries run concurrently with each other but never with a command, so a query
sees the state between turns.

A method that never awaits runs inside `pump`, without a task. Any other method gets a task, and the mailbox
continues when that task ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from time import perf_counter
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.method import MethodSpec
from aidevos.durable.turns.course import Line
from aidevos.durable.turns.request import Request
from aidevos.observability.metrics import REFUSED_REQUESTS

# Begins a turn of an object.
Start = Callable[[Any, Request], "asyncio.Task[None] | None"]
_REFUSED = REFUSED_REQUESTS.labels("mailbox")


class Mailbox:
    """The queue of one object's requests. It starts held, with one `release` to come.

    `start` begins a turn of the object `owner`, and returns its task unless the turn has already ended.
    """

    __slots__ = ("_command", "_holds", "_limit", "_owner", "_pumping", "_queries", "_queue", "_running", "_start")

    def __init__(self, limit: int, start: Start, owner: Any) -> None:
        self._limit = limit
        self._start = start
        self._owner = owner
        # Both are empty most of the time, and an empty deque or set takes several times as much memory.
        self._queue: list[Request] = []
        self._queries: dict[asyncio.Task[None], None] = {}
        self._command: asyncio.Task[None] | None = None
        # The method of the running command.
        self._running = ""
        self._holds = 1
        self._pumping = False

    def put(self, request: Request) -> None:
        """Queue a request, and run whatever can run. Raises `overloaded`."""
        if len(self._queue) >= self._limit:
            _REFUSED.inc()
            raise Failure("overloaded", f"{self._limit} requests already wait for this object", retry_after=1.0)
        request.queued_at = perf_counter()
        if self._holds or self._queue or self._command is not None or self._queries:
            running = self._running if self._command is not None else ""
            request.line = Line(running, len(self._queue), self._holds > 0)
        self._queue.append(request)
        self.pump()

    def hold(self) -> None:
        """Start no further turn until `release` has been called as often as `hold`."""
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
                method = self._queue[0].method
                if method.is_command and self._queries:
                    return
                task = self._start(self._owner, self._queue.pop(0))
                if task is not None:
                    self._watch(task, method)
        finally:
            self._pumping = False

    def put_back(self, request: Request) -> None:
        """Return a request to the front of the queue, because its turn can't begin yet."""
        self._queue.insert(0, request)

    def remove(self, requests: Collection[Request]) -> list[Request]:
        """Remove those of these requests that still wait, and return them."""
        removed = [request for request in self._queue if request in requests]
        self._queue = [request for request in self._queue if request not in requests]
        return removed

    def waiting(self) -> Iterator[Request]:
        return iter(self._queue)

    def close(self) -> list[Request]:
        """Stop for good: cancel the running turns, and return the requests that were not started."""
        self._holds += 1
        # The owner refers to this mailbox. Dropping it breaks the cycle, so both are freed at once.
        self._owner = None
        left = list(self._queue)
        self._queue.clear()
        for task in [self._command, *self._queries]:
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        return left

    @property
    def idle(self) -> bool:
        return not (self._queue or self._queries or self._command)

    @property
    def has_command(self) -> bool:
        """True while a command runs that waits for something now, or waits for its turn."""
        return self._command is not None or any(request.method.is_command for request in self._queue)

    def _watch(self, task: asyncio.Task[None], method: MethodSpec) -> None:
        if method.is_command:
            self._command, self._running = task, method.name
        else:
            self._queries[task] = None
        task.add_done_callback(self._on_turn_done)

    def _on_turn_done(self, task: asyncio.Task[None]) -> None:
        if task is self._command:
            self._command = None
        self._queries.pop(task, None)
        self.pump()
