"""The holder of a user's API keys: their number, and what must be deleted when the user is deleted."""

from __future__ import annotations

import msgspec

from aidevos import command, query, services
from aidevos.contracts.api_keys import HOLDER_TYPE, SEARCH, TYPE, ApiKeyPage, ApiKeySummary
from aidevos.work.holders import Holder

STEP = 100


class KeyHolderDO(Holder, type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's API keys, under the user's ID."""

    held = TYPE
    noun = "API keys"

    @property
    def limit(self) -> int:
        return self.settings.max_keys

    @query(allow=services())
    async def summaries(self) -> list[ApiKeySummary]:
        """Return a summary of each key of the user."""
        page = await self._page()
        found = page.items
        while page.next_cursor:
            page = await self._page(page.next_cursor)
            found += page.items
        return [ApiKeySummary(id=key.id, name=key.name, hint=key.hint, created_at=key.created_at) for key in found]

    @command(allow=services())
    async def erase(self, cursor: str | None = None) -> None:
        """Delete all keys of the user, one batch at a time, and then this object.

        No call waits for a key, since the look-ups of keys wait for other objects of the user.
        """
        page = await self._page(cursor)
        for key in page.items:
            self.tell(TYPE, key.id, "erase")
        if page.next_cursor:
            self.tell(HOLDER_TYPE, self.id, "erase", cursor=page.next_cursor)
        # A turn that only returned would create an object.
        await self.delete()

    async def _page(self, cursor: str | None = None) -> ApiKeyPage:
        return msgspec.convert(await self.ask(TYPE, SEARCH, owner=self.id, limit=STEP, cursor=cursor), ApiKeyPage)
