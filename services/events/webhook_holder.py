"""Who has webhooks: how many there may be, and what has to go when a user is erased.

Promise: no user has more than the setting says, whatever is made at once: a place is taken before the webhook
is made. A place that nothing was made in is found when there is no other, a minute later.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, services
from aidevos.contracts.webhooks import HOLDER_TYPE, SEARCH, TYPE, WebhookPage
from aidevos.settings import Settings

STEP = 100
# Seconds by which what a reservation was for is there, or never will be.
SETTLED = 60.0


class WebhookHolderState(msgspec.Struct):
    """When the place of each webhook was taken, in seconds since the epoch."""

    webhooks: dict[str, float] = {}


class WebhookHolderDO(BaseDurableObject[WebhookHolderState], type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's webhooks, under the user's ID."""

    settings: Settings = inject()

    @command(allow=services())
    async def reserve(self, webhook: str) -> None:
        """Take a place; raises `conflict` when there is none."""
        held = self.state.webhooks
        if webhook not in held and len(held) >= self.settings.max_webhooks:
            held = self.state.webhooks = await self._used()
        if webhook not in held and len(held) >= self.settings.max_webhooks:
            raise Failure("conflict", f"a user has at most {self.settings.max_webhooks} webhooks")
        held[webhook] = self.now

    @command(allow=services())
    async def release(self, webhook: str) -> None:
        """Give a place back."""
        self.state.webhooks.pop(webhook, None)
        if not self.state.webhooks:
            await self.delete()

    @command(allow=services())
    async def erase(self) -> None:
        """End every webhook of the user and keep nothing of it, a step at a time."""
        found = await self._find(STEP)
        for webhook in found.items:
            await self.call(TYPE, webhook.id, "erase")
        if found.items:
            self.tell(HOLDER_TYPE, self.id, "erase")
        await self.delete()

    async def _used(self) -> dict[str, float]:
        """The places of what is there, or may come."""
        there = {webhook.id for webhook in (await self._find(self.settings.max_webhooks)).items}
        recent = self.now - SETTLED
        return {id: at for id, at in self.state.webhooks.items() if id in there or at > recent}

    async def _find(self, limit: int) -> WebhookPage:
        return msgspec.convert(await self.ask(TYPE, SEARCH, owner=self.id, limit=limit), WebhookPage)
