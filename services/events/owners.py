"""The access of webhooks' owners: judged like their live streams, by their current permissions.

Promises: an owner who was deactivated, or whose API key is gone, sees nothing; a changed role takes
effect within `queries.LOOKUP_LIFE` seconds. Questions that only the data's service can answer are sent
with a delegation that is valid for that one question.
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
from aidevos.security.delegations import DelegatedCall, Delegations, Mandate, claims_of
from aidevos.security.mandates import load_mandate
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.security.tokens import TokenVerifier

NEEDED = (webhooks.OWN_WEBHOOKS, READ_EVENTS)


class Owner(NamedTuple):
    """An owner of webhooks, possibly through an API key; without a mandate, it has no access.

    `authorization` identifies the owner's current permissions.
    """

    caller: Principal
    mandate: Mandate | None
    authorization: str


class Owners:
    """Decides which events the owners of webhooks may see."""

    def __init__(self, objects: DurableObjectClient, verifier: TokenVerifier, delegations: Delegations) -> None:
        self._objects = objects
        self._verifier = verifier
        self._delegations = delegations
        self._audience: Audience[Owner] = Audience(self._ask)
        self._owners: Lookups[Owner] = Lookups()

    async def show_event(self, user: str, key: str, delivery: Delivery) -> bytes | None:
        """Return the event as the owner may see it, or None if it may not; the arguments are those of `may_see`.

        Raises `Failure` if that is unknown.
        """
        event = parse_event(delivery.subject, delivery.payload)
        return event.payload if event is not None and await self.may_see(user, key, event) else None

    async def may_see(self, user: str, key: str, event: ShownEvent) -> bool:
        """Return True if this user may see the event; `key` is the API key that created the webhook, if any.

        The owner must still be allowed to have webhooks and read events. Test events need nothing else.
        Raises `Failure` if the answer is unknown.
        """
        owner = await self._owners.get(f"{user} {key}", lambda: self._owner(user, key))
        if owner is None or owner.mandate is None or not all(map(owner.caller.has, NEEDED)):
            return False
        return (event.type == webhooks.TYPE and event.name == "test") or await self._audience.may_see(owner, event)

    async def _owner(self, user: str, key: str) -> Owner:
        try:
            mandate = await load_mandate(self._objects.call, user, key)
            caller = self._verifier.judge(claims_of(mandate, time.time()))
        except Failure as failure:
            if failure.code != "unauthenticated":
                raise
            return Owner(ANONYMOUS, None, "")
        return Owner(caller, mandate, f"{user} {key} {mandate.version} {','.join(mandate.scopes)}")

    async def _ask(self, owner: Owner | None, subject: str, payload: bytes) -> bytes:
        if owner is None or owner.mandate is None:
            return await self._objects.request(subject, payload)
        call = DelegatedCall(subject, payload, f"webhook.{secrets.token_hex(16)}")
        authorization = self._delegations.authorization(owner.mandate, call)
        return await self._objects.request(subject, payload, authorization=authorization, request_id=call.request_id)
