"""A bound on operations that run at once in one process, shared fairly among callers.

Promises: all operations together have at most `limit` places, of which a small one takes one, and any other a quarter.
No caller has all places, so one caller's slow operations never keep all others out. Waiting callers take turns, and
each one's operations begin in their order. No operation begins after its caller has stopped waiting, so a backlog that
nobody waits for any more costs no reads.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import perf_counter
from typing import NamedTuple, TypeVar

from aidevos.contracts.errors import Failure
from aidevos.observability.slow_log import note_wait

T = TypeVar("T")

# Until when the caller of the running task waits, in seconds of the event loop's clock.
waits_until: ContextVar[float] = ContextVar("waits_until", default=math.inf)


class _Turn(NamedTuple):
    """An operation that waits until it may take its places."""

    begins: asyncio.Future[None]
    places: int


class FairShare:
    """Runs operations in `limit` places, which must be at least 2."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: Counter[str] = Counter()
        self._free = limit
        # The callers whose turn comes next are first.
        self._waiting: dict[str, deque[_Turn]] = {}

    async def run(self, caller: str, operation: Callable[[], Awaitable[T]], *, small: bool = False) -> T:
        """Run a caller's operation as soon as its turn has come, and return its result.

        Raises `deadline-exceeded` if `waits_until` has passed by then.
        """
        places = 1 if small else max(1, self._limit // 4)
        if self._waiting or places > self._free or not self._may_take(caller, places):
            await self._wait(caller, places)
        else:
            self._take(caller, places)
        try:
            if asyncio.get_running_loop().time() > waits_until.get():
                raise Failure("deadline-exceeded", "the deadline passed while the search was waiting for its turn")
            return await operation()
        finally:
            self._give_back(caller, places)

    async def _wait(self, caller: str, places: int) -> None:
        """Return when the caller's turn has come."""
        asked, turn = perf_counter(), _Turn(asyncio.get_running_loop().create_future(), places)
        self._waiting.setdefault(caller, deque()).append(turn)
        self._admit()
        try:
            await turn.begins
            note_wait("its turn among the searches", perf_counter() - asked)
        except BaseException:
            if turn.begins.done() and not turn.begins.cancelled():
                self._give_back(caller, places)
            raise

    def _may_take(self, caller: str, places: int) -> bool:
        return self._taken[caller] + places < self._limit

    def _take(self, caller: str, places: int) -> None:
        self._taken[caller] += places
        self._free -= places

    def _admit(self) -> None:
        while (caller := self._next_caller()) is not None:
            queue = self._waiting.pop(caller)
            turn = queue.popleft()
            if queue:
                self._waiting[caller] = queue
            if not turn.begins.done():
                turn.begins.set_result(None)
                self._take(caller, turn.places)

    def _next_caller(self) -> str | None:
        """Return the caller whose turn it is, or None if there is none, or not yet enough room for it."""
        for caller, queue in self._waiting.items():
            if self._may_take(caller, queue[0].places):
                return caller if queue[0].places <= self._free else None
        return None

    def _give_back(self, caller: str, places: int) -> None:
        self._free += places
        self._taken[caller] -= places
        if not self._taken[caller]:
            del self._taken[caller]
        self._admit()
