"""Limits of concurrent deliveries: to one webhook, for one owner, and in total.

Promises: a slow receiver takes no more of a process than its own slots, and neither do all receivers of one owner. They
never block the others. The limits hold for all processes of the service together, because each uses its share of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

from aidevos import Peers, Slots

# Seconds that a delivery waits for its slot before it is postponed.
PATIENCE = 10.0
# One owner may use one part in this many of the slots.
PARTS = 4


class Sends:
    """Slots for deliveries: `total` in the fleet, a quarter of them for one owner, and `each` for one webhook.

    This process uses the share of them that `peers` grants.
    """

    def __init__(self, total: int, each: int, peers: Peers, patience: float = PATIENCE) -> None:
        self._total = Slots(lambda: peers.share(total))
        self._of_owner = lambda: peers.share(total // PARTS)
        self._each = lambda: peers.share(each)
        self._patience = patience
        self._owners: WeakValueDictionary[str, Slots] = WeakValueDictionary()
        self._webhooks: WeakValueDictionary[str, Slots] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, webhook: str, owner: str) -> AsyncIterator[bool]:
        """Wait for a slot and hold it during the block; yield False if no slot became free in time."""
        to_webhook = self._webhooks.setdefault(webhook, Slots(self._each))
        of_owner = self._owners.setdefault(owner, Slots(self._of_owner))
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
