"""For which request a caller has used an `Idempotency-Key`.

Most requests are about one object, which itself notices when a key comes back with another payload.
Those whose payload names the object come to another one then, so the gateway asks here first. The
answer is the framework's own: the key's use is a request under one ID, whose repeats must be the same.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.envelope import IDEMPOTENCY_KEY_TYPE


class NoState(msgspec.Struct):
    """There is none: the record of the request is all."""


class IdempotencyKeyDO(BaseDurableObject[NoState], type=IDEMPOTENCY_KEY_TYPE, management="read_only", internal=True):
    """A caller's key. Its ID is made of the caller and the key."""

    @command(allow=services())
    async def use(self, request: str) -> None:
        """Note which request the key is of, by its hash."""
        # What is deleted is purged when the record is of no use any more.
        await self.delete()
