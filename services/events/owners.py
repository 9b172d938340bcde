"""What the owners of webhooks may see: judged as a live stream of theirs would be, by their rights of today.

Promises: an owner who was deactivated, or whose API key is gone, sees nothing; a changed role counts within
`queries.LOOKUP_LIFE` seconds. What only the service of the data can say is asked by a delegation that is good for
that question alone.
"""

from __future__ import annotations

import secrets
import time
from typing import NamedTuple

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import webhooks
from aidevos.feeds import Delivery
from aidevos.feeds.audience import READ_EVENTS, Audience
from aidevos.feeds.shown_events import ShownEvent, parse_event
from aidevos.queries import Lookups
from aidevos.security.delegations import Delegations, Errand, Mandate, claims_of
from aidevos.security.mandates import mandate_of
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.security.tokens import TokenVerifier

NEEDED = (webhooks.OWN_WEBHOOKS, READ_EVENTS)


class Owner(NamedTuple):
    """An owner of webhooks, or one by an API key; without a mandate it has no access. `authorization` stands for
    the rights."""

    caller: Principal
    mandate: Mandate | None
    authorization: str


class Owners:
    def __init__(self, objects: DurableObjectClient, verifier: TokenVerifier, delegations: Delegations) -> None:
        self._objects = objects
        self._verifier = verifier
        self._delegations = delegations
        self._audience: Audience[Owner] = Audience(self._ask)
        self._owners: Lookups[Owner] = Lookups()

    async def payload(self, user: str, key: str, delivery: Delivery) -> bytes | None:
        """The event as its owner may see it; None where it may not. Raises `Failure` when that can't be said."""
        event = parse_event(delivery.subject, delivery.payload)
        return event.payload if event is not None and await self.may_see(user, key, event) else None

    async def may_see(self, user: str, key: str, event: ShownEvent) -> bool:
        """Whether the event is for this user, who has asked for it by this API key, or none."""
        owner = await self._owners.get(f"{user} {key}", lambda: self._owner(user, key))
        if owner is None or owner.mandate is None or not all(map(owner.caller.has, NEEDED)):
            return False
        return (event.type == webhooks.TYPE and event.name == "test") or await self._audience.may_see(owner, event)

    async def _owner(self, user: str, key: str) -> Owner:
        try:
            mandate = await mandate_of(self._objects.call, user, key)
            caller = self._verifier.judge(claims_of(mandate, time.time()))
        except Failure as failure:
            if failure.code != "unauthenticated":
                raise
            return Owner(ANONYMOUS, None, "")
        return Owner(caller, mandate, f"{user} {key} {mandate.version} {','.join(mandate.scopes)}")

    async def _ask(self, owner: Owner | None, subject: str, payload: bytes) -> bytes:
        if owner is None or owner.mandate is None:
            return await self._objects.request(subject, payload)
        errand = Errand(subject, payload, f"webhook.{secrets.token_hex(16)}")
        authorization = self._delegations.authorization(owner.mandate, errand)
        return await self._objects.request(subject, payload, authorization=authorization, request_id=errand.request_id)
