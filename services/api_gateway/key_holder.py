"""Who holds API keys: what has to go when a user is erased or deactivated."""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, command, services
from aidevos.contracts.api_keys import HOLDER_TYPE, SEARCH, TYPE, ApiKeyPage

STEP = 100


class KeyHolderState(msgspec.Struct):
    """Nothing is kept: the keys name their owner."""


class KeyHolderDO(BaseDurableObject[KeyHolderState], type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's API keys, under the user's ID."""

    @command(allow=services())
    async def erase(self) -> None:
        """End every key of the user and keep nothing of it, a step at a time."""
        found = msgspec.convert(await self.ask(TYPE, SEARCH, owner=self.id, limit=STEP), ApiKeyPage)
        for key in found.items:
            await self.call(TYPE, key.id, "erase")
        if found.items:
            self.tell(HOLDER_TYPE, self.id, "erase")
        # A turn that only returned would make an object.
        await self.delete()
