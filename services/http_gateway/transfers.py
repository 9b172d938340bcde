"""Admission of imports and exports, which hold memory and files for as long as their client takes.

Promise: at most `max_transfers` of them run in this process, and `max_caller_transfers` of one caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial

from aidevos.contracts.errors import Failure
from aidevos.settings import Settings

from .http.responses import Chunks

RETRY_AFTER = 1.0
Lines = AsyncGenerator[bytes, None]


class Transfers:
    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_transfers
        self._limit_of_caller = settings.max_caller_transfers
        self._of_caller: Counter[str] = Counter()

    async def start(self, caller: str, make_lines: Callable[[], Awaitable[Lines]]) -> Chunks:
        """Return the lines of a transfer, which ends when they are closed.

        Raises `rate-limited` or `overloaded` before it calls `make_lines` if there are too many transfers.
        """
        if self._of_caller[caller] >= self._limit_of_caller:
            raise Failure("rate-limited", "this caller has too many imports and exports", retry_after=RETRY_AFTER)
        if self._of_caller.total() >= self._limit:
            raise Failure("overloaded", "too many imports and exports run in this gateway", retry_after=RETRY_AFTER)
        self._of_caller[caller] += 1
        try:
            return _Transfer(await make_lines(), partial(self._end, caller))
        except BaseException:
            self._end(caller)
            raise

    def _end(self, caller: str) -> None:
        self._of_caller[caller] -= 1
        self._of_caller += Counter()


class _Transfer:
    """The lines of a transfer. Closing a generator that was never started doesn't run its code, so `end` is apart."""

    def __init__(self, lines: Lines, end: Callable[[], None]) -> None:
        self._lines = lines
        self._end = end

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._lines

    async def aclose(self) -> None:
        try:
            await self._lines.aclose()
        finally:
            self._end()
