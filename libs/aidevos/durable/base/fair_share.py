"""A bound on operations that run at once in one process, shared fairly among callers.

Promises: at most `limit` operations run at once. No caller has more than `limit - 1` of them, so one caller's slow
operations never keep all others out. Waiting callers take turns, and each one's operations begin in their order.
No operation begins after its caller has stopped waiting, so a backlog that nobody waits for any more costs no reads.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import perf_counter
from typing import TypeVar

from aidevos.contracts.errors import Failure
from aidevos.observability.slow_log import note_wait

T = TypeVar("T")

# Until when the caller of the running task waits, in seconds of the event loop's clock.
waits_until: ContextVar[float] = ContextVar("waits_until", default=math.inf)


class FairShare:
    """Runs at most `limit` operations at once, which must be at least 2."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[str] = Counter()
        self._free = limit
        # The callers whose turn comes next are first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, caller: str, operation: Callable[[], Awaitable[T]]) -> T:
        """Run a caller's operation as soon as its turn has come, and return its result.

        Raises `deadline-exceeded` if `waits_until` has passed by then.
        """
        if not self._free or caller in self._waiting or self._running[caller] >= self._limit - 1:
            await self._wait(caller)
        else:
            self._enter(caller)
        try:
            if asyncio.get_running_loop().time() > waits_until.get():
                raise Failure("deadline-exceeded", "the deadline passed while the search was waiting for its turn")
            return await operation()
        finally:
            self._leave(caller)

    async def _wait(self, caller: str) -> None:
        """Return when the caller's turn has come."""
        asked, turn = perf_counter(), asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(caller)
            raise
        note_wait("its turn among the searches", perf_counter() - asked)

    def _enter(self, caller: str) -> None:
        self._running[caller] += 1
        self._free -= 1

    def _admit(self) -> None:
        while self._free and (caller := self._next_caller()) is not None:
            queue = self._waiting.pop(caller)
            turn = queue.popleft()
            if queue:
                self._waiting[caller] = queue
            if not turn.done():
                turn.set_result(None)
                self._enter(caller)

    def _next_caller(self) -> str | None:
        return next((caller for caller in self._waiting if self._running[caller] < self._limit - 1), None)

    def _leave(self, caller: str) -> None:
        self._free += 1
        self._running[caller] -= 1
        if not self._running[caller]:
            del self._running[caller]
        self._admit()
