"""How many deliveries are under way at once: few to one webhook, more of one owner, most in the process.

Promise: a receiver that is slow takes no more of the process than its own share, and neither do all those of one
owner; the others go on beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

# Seconds that a delivery waits for its turn before it is put off.
PATIENCE = 10.0
# Of all that is under way in the process, the part that may be one owner's.
SHARE = 4


class Sends:
    """At most `total` in the process, a quarter of that of one owner, and `each` to one webhook."""

    def __init__(self, total: int, each: int, patience: float = PATIENCE) -> None:
        self._total = asyncio.Semaphore(total)
        self._of_owner = max(total // SHARE, 1)
        self._each = each
        self._patience = patience
        self._owners: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._webhooks: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, webhook: str, owner: str) -> AsyncIterator[bool]:
        """Whether it is this one's turn, which it is until the end of the block."""
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
