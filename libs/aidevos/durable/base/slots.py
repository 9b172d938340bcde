"""A bound on operations that run at once, which may change while they run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """Admits operations to `async with slots:` in their order, while fewer than `limit()` run.

    A lower limit ends no operation, and a higher one admits waiting operations as soon as a running one ends.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self._waiting and self._taken < self._limit():
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()
            raise

    async def __aexit__(self, *error: object) -> None:
        self._leave()

    def _admit(self) -> None:
        while self._waiting and self._taken < self._limit():
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._taken += 1

    def _leave(self) -> None:
        self._taken -= 1
        self._admit()
