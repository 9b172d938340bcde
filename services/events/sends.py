"""How many deliveries are under way at once: few to one webhook, more in the process.

Promise: a receiver that is slow takes no more of the process than its own share; the others go on beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Seconds that a delivery waits for its turn before it is put off.
PATIENCE = 10.0


class Sends:
    """At most `total` in the process and `each` to one webhook."""

    def __init__(self, total: int, each: int, patience: float = PATIENCE) -> None:
        self._total = asyncio.Semaphore(total)
        self._each = each
        self._patience = patience
        self._lines: dict[str, asyncio.Semaphore] = {}
        self._standing: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, webhook: str) -> AsyncIterator[bool]:
        """Whether it is this one's turn, which it is until the end of the block."""
        line = self._lines.setdefault(webhook, asyncio.Semaphore(self._each))
        self._standing[webhook] += 1
        try:
            if not await self._enter(line):
                yield False
                return
            try:
                yield True
            finally:
                self._total.release()
                line.release()
        finally:
            self._standing[webhook] -= 1
            if not self._standing[webhook]:
                del self._standing[webhook], self._lines[webhook]

    async def _enter(self, line: asyncio.Semaphore) -> bool:
        entered = False
        try:
            async with asyncio.timeout(self._patience):
                entered = await line.acquire()
                await self._total.acquire()
        except TimeoutError:
            if entered:
                line.release()
            return False
        except asyncio.CancelledError:
            if entered:
                line.release()
            raise
        return True
