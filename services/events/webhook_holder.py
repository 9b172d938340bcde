"""The holder of a user's webhooks: their number, and what must be deleted when the user is deleted."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from aidevos import command, query, services
from aidevos.contracts.webhooks import HOLDER_TYPE, SEARCH, TYPE, WebhookInfo, WebhookPage, WebhookSummary
from aidevos.work.holders import Holder

STEP = 100


class WebhookHolderDO(Holder, type=HOLDER_TYPE, management="read_only", internal=True):
    """A user's webhooks, under the user's ID."""

    held = TYPE
    noun = "webhooks"

    @property
    def limit(self) -> int:
        return self.settings.max_webhooks

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

    async def _find(self, limit: int) -> WebhookPage:
        return msgspec.convert(await self.ask(TYPE, SEARCH, owner=self.id, limit=limit), WebhookPage)


def _summarize(webhook: WebhookInfo) -> WebhookSummary:
    # The rest of a URL may be a secret.
    host = urlsplit(webhook.url).hostname or ""
    return WebhookSummary(id=webhook.id, host=host, description=webhook.description, created_at=webhook.created_at)
