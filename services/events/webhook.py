"""A webhook: the receiver of a user's events, and the secrets that sign them.

Promises: the secrets are encrypted at rest and shown only once, to the owner. During a rotation, both
secrets sign. A webhook that was created with an API key is limited by that key for good. Every change
emits an event, after which all senders read the webhooks again. The log of deliveries is deleted with
the webhook.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from aidevos import BaseDurableObject, Event, Failure, Schema, command, inject, permission, query, services
from aidevos.contracts import users
from aidevos.contracts.merge_patch import merge_patch
from aidevos.contracts.times import rfc3339_of
from aidevos.contracts.users import User
from aidevos.contracts.webhooks import (
    DAY,
    DELIVERY_TYPE,
    HOLDER_TYPE,
    MANAGE_WEBHOOKS,
    OWN_WEBHOOKS,
    SEARCH,
    TEST,
    TYPE,
    Collections,
    DeliveryPage,
    Description,
    NewWebhook,
    Overlap,
    Patterns,
    Projects,
    Status,
    TestSent,
    Url,
    WebhookBody,
    WebhookInfo,
    delivery_id,
)
from aidevos.feeds.audience import READ_EVENTS
from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.feeds.webhook_signatures import new_secret
from aidevos.queries import Search
from aidevos.security import api_keys
from aidevos.security.audit import record
from aidevos.security.sealed import Sealer
from aidevos.work.holders import held_view

from .webhook_state import FIND, Target, WebhookState, body_of, show

# Deliveries of a removed webhook that are deleted in one turn.
STEP = 100
KNOWN = permission(OWN_WEBHOOKS) | permission(MANAGE_WEBHOOKS)
_body: Schema[WebhookBody] = Schema(WebhookBody, "args.patch")


class Changed(Event):
    """The webhook was created, changed or deleted."""


class WebhookDO(BaseDurableObject[WebhookState], type=TYPE, management="read_only"):
    """A webhook. Its ID is a UUID, 32 hexadecimal digits."""

    sealer: Sealer = inject()
    sender: WebhookSender = inject()
    searches = (Search(SEARCH, KNOWN | services(), *FIND),)
    views = (held_view(TYPE, ("owner",)),)
    indexes = (("owner",),)

    @command(allow=permission(OWN_WEBHOOKS), confidential=True)
    async def create(
        self,
        url: Url,
        events: Patterns,
        collections: Collections = [],  # noqa: B006
        projects: Projects = [],  # noqa: B006
        description: Description = "",
        active: bool = True,
    ) -> NewWebhook:
        """Create the webhook. Its secret is shown only in this response, and to a repeat of the same request."""
        if self.state.made_by == self.request_id:
            return self._new()
        if self.state.owner:
            raise Failure("exists", "a webhook with this ID exists already")
        if not api_keys.is_id(self.id):
            raise Failure("invalid", "a new webhook's ID must be a UUID of 32 hexadecimal digits", field="id")
        if not self.caller.has(READ_EVENTS):
            raise Failure("forbidden", f"this requires the permission {READ_EVENTS}")
        await self._check_user()
        self._check_url(url, "args.url")
        await self.call(HOLDER_TYPE, self.caller.subject, "reserve", id=self.id)
        self.state = WebhookState(
            owner=self.caller.subject,
            key=self.caller.key,
            url=url,
            events=events,
            collections=collections,
            projects=projects,
            description=description,
            active=active,
            secret=self._seal(new_secret()),
            made_by=self.request_id,
            created_at=self.now,
        )
        self._note("webhook.created")
        return self._new(changes=1)

    @query(allow=KNOWN)
    async def read(self) -> WebhookInfo:
        """Return the webhook. Callers other than its owner need `webhooks:manage`; others get `not-found`."""
        self._check_visible()
        return show(self.id, self.state, self.version)

    @command(allow=KNOWN, checks_if_match=False)
    async def patch(self, patch: dict[str, Any]) -> WebhookInfo:
        """Change the webhook by a JSON merge patch (RFC 7396)."""
        self._admit_change()
        state, before = self.state, body_of(self.state)
        after = _body.convert(merge_patch(msgspec.to_builtins(before), patch))
        if after.url != before.url:
            self._check_url(after.url, "args.patch.url")
        if after.active and not before.active:
            state.failing_since = None
        if after.active != before.active:
            state.disabled_reason = ""
        for name in WebhookBody.__struct_fields__:
            setattr(state, name, getattr(after, name))
        self._note("webhook.changed")
        return show(self.id, state, self.version + 1)

    @command(allow=KNOWN, confidential=True, checks_if_match=False)
    async def rotate_secret(self, overlap: Overlap = DAY) -> NewWebhook:
        """Replace the secret by a new one; the former secret also signs for `overlap` more seconds."""
        self._check_visible()
        if self.state.made_by == self.request_id:
            return self._new()
        self._admit_change()
        if self.caller.subject != self.state.owner:
            raise Failure("forbidden", "only the owner can get a new secret; you can deactivate the webhook")
        state = self.state
        state.former, state.former_until = state.secret, self.now + overlap
        state.secret, state.made_by = self._seal(new_secret()), self.request_id
        self._note("webhook.secret_rotated")
        return self._new(changes=1)

    @command(allow=KNOWN)
    async def test(self) -> TestSent:
        """Send an event of the type `webhook.test`, like any other."""
        self._check_visible()
        id = delivery_id(self.id, self.request_id)
        event = {
            "specversion": "1.0",
            "id": self.request_id,
            "source": f"/durable-objects/{TYPE}:{self.id}",
            "type": TEST,
            "time": rfc3339_of(self.now),
            "datacontenttype": "application/json",
            "data": {},
        }
        self.tell(
            DELIVERY_TYPE,
            id,
            "begin",
            webhook=self.id,
            owner=self.state.owner,
            subject=f"event.{TYPE}.{self.id}.test",
            event_id=self.request_id,
            event=msgspec.json.encode(event).decode(),
        )
        return TestSent(id)

    @query(allow=KNOWN)
    async def deliveries(
        self,
        limit: int = 50,
        cursor: str | None = None,
        status: Status | None = None,
        sort: Literal["at", "-at"] = "-at",
    ) -> DeliveryPage:
        """Return the webhook's deliveries, past and pending."""
        self._check_visible()
        return await self._deliveries(limit, cursor, status, sort)

    @command(allow=KNOWN, checks_if_match=False)
    async def remove(self) -> None:
        """Delete the webhook and its log; nothing more is sent."""
        self._admit_change()
        record(self, "webhook.deleted", target=self.id)
        await self._end()

    @command(allow=services())
    async def erase(self) -> None:
        """Delete the webhook because its owner was deleted."""
        if await self._exists():
            await self._end()

    @command(allow=services())
    async def sweep(self) -> None:
        """Delete the deliveries of a removed webhook, one batch at a time."""
        if self.state.owner:
            return
        found = await self._deliveries(STEP)
        for delivery in found.items:
            await self.call(DELIVERY_TYPE, delivery.id, "erase")
        if found.items:
            self.tell(TYPE, self.id, "sweep")
        # A turn that only returned would create an object.
        await self.delete()

    @query(allow=services(), reentrant=True)
    async def target(self) -> Target | None:
        """Return the data that a delivery needs, or None if the webhook doesn't exist."""
        state = self.state
        if not state.owner:
            return None
        secrets = [state.secret, state.former] if state.former_until > self.now else [state.secret]
        return Target(
            owner=state.owner,
            key=state.key,
            url=state.url,
            active=state.active,
            failing_since=state.failing_since,
            secrets=secrets,
        )

    @command(allow=services())
    async def fail(self, at: float) -> None:
        """Record that a delivery failed, unless the webhook is already failing."""
        if await self._exists() and self.state.failing_since is None:
            self.state.failing_since = at

    @command(allow=services())
    async def recover(self) -> None:
        """Record that a delivery succeeded."""
        if await self._exists():
            self.state.failing_since = None

    @command(allow=services())
    async def disable(self, reason: str) -> None:
        """Deactivate the webhook for this reason; only its owner or a manager can reactivate it."""
        if await self._exists() and self.state.active:
            self.state.active, self.state.disabled_reason = False, reason
            self._note("webhook.disabled", reason)

    async def _exists(self) -> bool:
        """Return True if the webhook exists. Otherwise the turn, which may come late, makes no object of this ID."""
        if not self.state.owner:
            await self.delete()
        return bool(self.state.owner)

    async def _deliveries(
        self, limit: int, cursor: str | None = None, status: Status | None = None, sort: str = "-at"
    ) -> DeliveryPage:
        page = await self.ask(
            DELIVERY_TYPE, SEARCH, webhook=self.id, limit=limit, cursor=cursor, status=status, sort=sort
        )
        return msgspec.convert(page, DeliveryPage)

    async def _end(self) -> None:
        self.emit(Changed())
        self.tell(HOLDER_TYPE, self.state.owner, "release", id=self.id)
        self.tell(TYPE, self.id, "sweep")
        await self.delete()

    def _seal(self, secret: str) -> str:
        return self.sealer.seal(secret.encode(), TYPE, self.id)

    def _new(self, changes: int = 0) -> NewWebhook:
        secret = self.sealer.open(self.state.secret, TYPE, self.id).decode()
        shown = show(self.id, self.state, self.version + changes)
        return NewWebhook(**msgspec.structs.asdict(shown), secret=secret)

    def _note(self, action: str, reason: str = "") -> None:
        self.state.updated_at = self.now
        self.emit(Changed())
        record(self, action, target=self.id, reason=reason)

    def _check_visible(self) -> None:
        if not self.state.owner or not (self._owns() or self.caller.has(MANAGE_WEBHOOKS)):
            raise Failure("not-found", "this webhook doesn't exist")

    def _admit_change(self) -> None:
        """Refuse API keys that didn't create the webhook: a key must not get more events than it may see."""
        self._check_visible()
        self.check_if_match()
        if not self.caller.has(MANAGE_WEBHOOKS) and self.caller.key not in ("", self.state.key):
            raise Failure("forbidden", "an API key can change only the webhooks that it created")

    def _owns(self) -> bool:
        return self.caller.acts_for(self.state.owner, OWN_WEBHOOKS)

    async def _check_user(self) -> None:
        try:
            user = msgspec.convert(await self.call(users.TYPE, self.caller.subject, "show"), User)
        except Failure as failure:
            if failure.code not in ("not-found", "invalid"):
                raise
        else:
            if user.status == "active":
                return
        raise Failure("forbidden", "only users can have webhooks")

    def _check_url(self, url: str, field: str) -> None:
        try:
            self.sender.check(url)
        except Failure as failure:
            raise Failure(failure.code, failure.detail, field=field) from None
