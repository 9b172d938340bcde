"""The holder of a user's webhooks: their number, and what must be deleted when the user is deleted.

Promise: no user has more webhooks than the setting allows, even if several are created at once: a place
is reserved before the webhook is created. A reservation that was never used is freed a minute later,
when a place is needed.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from aidevos import BaseDurableObject, Failure, command, inject, query, services
from aidevos.contracts.webhooks import HOLDER_TYPE, SEARCH, TYPE, WebhookInfo, WebhookPage, WebhookSummary
from aidevos.settings import Settings

STEP = 100
# Seconds after which a reserved webhook exists or never will.
SETTLED = 60.0


class WebhookHolderState(msgspec.Struct):
    """The time at which each webhook's place was reserved, in seconds since the epoch."""

    webhooks: dict[str, float] = {}


class WebhookHolderDO(BaseDurableObject[WebhookHolderState], type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's webhooks, under the user's ID."""

    settings: Settings = inject()

    @command(allow=services())
    async def reserve(self, webhook: str) -> None:
        """Reserve a place. Raises `conflict` if all places are taken."""
        held = self.state.webhooks
        if webhook not in held and len(held) >= self.settings.max_webhooks:
            held = self.state.webhooks = await self._find_used()
        if webhook not in held and len(held) >= self.settings.max_webhooks:
            raise Failure("conflict", f"a user can have at most {self.settings.max_webhooks} webhooks")
        held[webhook] = self.now

    @command(allow=services())
    async def release(self, webhook: str) -> None:
        """Free a place."""
        self.state.webhooks.pop(webhook, None)
        if not self.state.webhooks:
            await self.delete()

    @query(allow=services())
    async def summaries(self) -> list[WebhookSummary]:
        """Return a summary of each webhook of the user."""
        return [_summarize(webhook) for webhook in (await self._find(self.settings.max_webhooks)).items]

    @command(allow=services())
    async def erase(self) -> None:
        """Delete all webhooks of the user, one batch at a time, and then this object."""
        found = await self._find(STEP)
        for webhook in found.items:
            await self.call(TYPE, webhook.id, "erase")
        if found.items:
            self.tell(HOLDER_TYPE, self.id, "erase")
        await self.delete()

    async def _find_used(self) -> dict[str, float]:
        """Return the places of webhooks that exist or may still be created."""
        existing = {webhook.id for webhook in (await self._find(self.settings.max_webhooks)).items}
        recent = self.now - SETTLED
        return {id: at for id, at in self.state.webhooks.items() if id in existing or at > recent}

    async def _find(self, limit: int) -> WebhookPage:
        return msgspec.convert(await self.ask(TYPE, SEARCH, owner=self.id, limit=limit), WebhookPage)


def _summarize(webhook: WebhookInfo) -> WebhookSummary:
    # The rest of a URL may be a secret.
    host = urlsplit(webhook.url).hostname or ""
    return WebhookSummary(id=webhook.id, host=host, description=webhook.description, created_at=webhook.created_at)
