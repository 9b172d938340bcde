"""An index of webhooks by event, so that an event needn't be compared with all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from aidevos.contracts.webhooks import EVERYTHING, WebhookInfo
from aidevos.feeds.shown_events import ItemChange, ShownEvent


class Subscriptions:
    """The active webhooks by pattern: an event's type and name, only its type, or everything."""

    def __init__(self, webhooks: Iterable[WebhookInfo] = ()) -> None:
        self._wanted: defaultdict[str, dict[str, WebhookInfo]] = defaultdict(dict)
        for webhook in webhooks:
            if webhook.active:
                for pattern in webhook.events:
                    self._wanted[pattern][webhook.id] = webhook

    def candidates(self, type: str, name: str) -> list[WebhookInfo]:
        """Return the webhooks whose patterns match, each once."""
        found: dict[str, WebhookInfo] = {}
        for pattern in (f"{type}.{name}", f"{type}.*", EVERYTHING):
            if pattern in self._wanted:
                found |= self._wanted[pattern]
        return list(found.values())


def wants(webhook: WebhookInfo, event: ShownEvent) -> bool:
    """True if the event passes the webhook's collections and projects; without these, all events pass."""
    if isinstance(event.about, ItemChange) and webhook.collections:
        return event.about.collection in webhook.collections
    return not (event.project and webhook.projects) or event.project in webhook.projects
