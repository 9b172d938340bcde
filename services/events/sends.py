"""Limits of concurrent deliveries: to one webhook, for one owner, and in the whole process.

Promise: a slow receiver takes no more of the process than its own share, and neither do all receivers
of one owner. They never block the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

# Seconds that a delivery waits for its slot before it is postponed.
PATIENCE = 10.0
# One owner may use one part in this many of the process's slots.
SHARE = 4


class Sends:
    """Slots for deliveries: `total` in the process, a quarter of them for one owner, and `each` for one webhook."""

    def __init__(self, total: int, each: int, patience: float = PATIENCE) -> None:
        self._total = asyncio.Semaphore(total)
        self._of_owner = max(total // SHARE, 1)
        self._each = each
        self._patience = patience
        self._owners: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._webhooks: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, webhook: str, owner: str) -> AsyncIterator[bool]:
        """Wait for a slot and hold it during the block; yield False if no slot became free in time."""
        to_webhook = self._webhooks.setdefault(webhook, asyncio.Semaphore(self._each))
        of_owner = self._owners.setdefault(owner, asyncio.Semaphore(self._of_owner))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._patience):
                    for line in (to_webhook, of_owner, self._total):
                        await held.enter_async_context(line)
            except TimeoutError:
                await held.aclose()
                admitted = False
            else:
                admitted = True
            yield admitted
