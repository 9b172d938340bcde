"""The holder of a user's API keys: what must be deleted when the user is deleted."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.api_keys import HOLDER_TYPE, SEARCH, TYPE, ApiKeyPage

STEP = 100


class KeyHolderState(msgspec.Struct):
    """No state: each key names its owner."""


class KeyHolderDO(BaseDurableObject[KeyHolderState], type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's API keys, under the user's ID."""

    @command(allow=services())
    async def erase(self) -> None:
        """Delete all keys of the user, one batch at a time, and then this object."""
        found = msgspec.convert(await self.ask(TYPE, SEARCH, owner=self.id, limit=STEP), ApiKeyPage)
        for key in found.items:
            await self.call(TYPE, key.id, "erase")
        if found.items:
            self.tell(HOLDER_TYPE, self.id, "erase")
        # A turn that only returned would create an object.
        await self.delete()
