"""The request for which a caller has used an `Idempotency-Key`.

Most requests concern one object, which itself detects that a key returns with another payload. If the
payload decides which object is concerned, a changed payload reaches another object, so the gateway
checks here first. The framework does the check: using a key is a request with a fixed ID, whose repeats
must have the same payload.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.envelope import IDEMPOTENCY_KEY_TYPE


class NoState(msgspec.Struct):
    """No state: the completion record of the request is all that is needed."""


class IdempotencyKeyDO(BaseDurableObject[NoState], type=IDEMPOTENCY_KEY_TYPE, management="read_only", internal=True):
    """A caller's idempotency key. Its ID derives from the caller and the key."""

    @command(allow=services())
    async def use(self, request: str) -> None:
        """Bind the key to a request, given by its hash."""
        # A deleted object is purged once its completion record is no longer needed.
        await self.delete()
