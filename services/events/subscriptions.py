"""An index of webhooks by event, so that an event needn't be compared with all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from aidevos.contracts import subjects
from aidevos.contracts.webhooks import DELIVERY_TYPE, EVERYTHING, TYPE, WebhookInfo
from aidevos.feeds.shown_events import ItemChange, ShownEvent

# The types whose events never go to a webhook, since webhooks cause them.
OWN = (TYPE, DELIVERY_TYPE)
# The largest number of patterns by which a bus is asked to filter.
MOST = 200
# Seconds by which the clocks of two hosts may differ.
SKEW = timedelta(seconds=0.1)


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
        if type in OWN:
            return []
        found: dict[str, WebhookInfo] = {}
        for pattern in (f"{type}.{name}", f"{type}.*", EVERYTHING):
            if pattern in self._wanted:
                found |= self._wanted[pattern]
        return list(found.values())

    def patterns(self) -> list[str]:
        """Return the patterns of all events that have candidates. They don't overlap, and may include others."""
        if EVERYTHING in self._wanted or len(self._wanted) > MOST:
            return [subjects.EVENTS]
        pairs = (pattern.split(".") for pattern in self._wanted)
        wanted = [(type, name) for type, name in pairs if type not in OWN]
        whole = {type for type, name in wanted if name == "*"}
        some = {subjects.event(type, "*", name) for type, name in wanted if type not in whole}
        return sorted(some | {subjects.events_of_type(type) for type in whole})


def wants(webhook: WebhookInfo, event: ShownEvent) -> bool:
    """True if the event isn't older than the webhook, and passes its collections and projects.

    Without these, all events pass.
    """
    if datetime.fromisoformat(event.time) + SKEW < datetime.fromisoformat(webhook.created_at):
        return False
    if isinstance(event.about, ItemChange) and webhook.collections:
        return event.about.collection in webhook.collections
    return not (event.project and webhook.projects) or event.project in webhook.projects
