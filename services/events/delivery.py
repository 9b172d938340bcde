"""A delivery: one event for one webhook, until it has arrived or was given up.

Promises: it is sent at least once, under one `webhook-id`, also across crashes: what came of an attempt is
committed with the next one's time. Each attempt asks anew whether the webhook's owner may see the event. After
the last attempt it has failed, and says why; a replay begins anew.
"""

from __future__ import annotations

import random
import time
from typing import NewType

import msgspec

from aidevos import Alarm, BaseDurableObject, Failure, command, inject, permission, query, services
from aidevos.contracts.webhooks import (
    DELIVERY_TYPE,
    MANAGE_WEBHOOKS,
    OWN_WEBHOOKS,
    SEARCH,
    TYPE,
    DeliveryInfo,
)
from aidevos.feeds import Delivery
from aidevos.feeds.webhook_sender import WebhookSender, headers
from aidevos.queries import Search
from aidevos.security.audit import record
from aidevos.security.sealed import Sealer, SealError
from aidevos.settings import Settings

from .delivery_state import FIND, DeliveryState, Tried, show
from .owners import Owners
from .sends import Sends
from .webhook_state import Target

KNOWN = permission(OWN_WEBHOOKS) | permission(MANAGE_WEBHOOKS)
SEND = "send"
# Seconds for which a delivery is put off that had no turn, or of which nobody could say whether it may be sent.
PUT_OFF = 5.0
# By how much a pause may be longer than the setting says, so that what failed together doesn't come together.
JITTER = 0.1
ERROR_LIMIT = 200
GONE = 410
# Seconds between attempts.
Pauses = NewType("Pauses", tuple[float, ...])


class DeliveryDO(BaseDurableObject[DeliveryState], type=DELIVERY_TYPE, management="read_only"):
    """One event for one webhook. Its ID is made of both."""

    settings: Settings = inject()
    pauses: Pauses = inject()
    sealer: Sealer = inject()
    sender: WebhookSender = inject()
    sends: Sends = inject()
    owners: Owners = inject()
    # An event may be as large as an object's outbox.
    state_limit = 3 * 1024 * 1024
    searches = (Search(SEARCH, services(), *FIND),)

    @command(allow=services(), creates=True)
    async def begin(self, webhook: str, owner: str, subject: str, event_id: str, event: str) -> None:
        """Become the delivery of this event; nothing changes where it is one already."""
        if self.state.status != "none":
            return
        self.state = DeliveryState(
            webhook=webhook, owner=owner, subject=subject, event_id=event_id, event=event, at=self.now
        )
        self._send_in(0.0)

    @query(allow=KNOWN)
    async def read(self, webhook: str | None = None) -> DeliveryInfo:
        """The delivery, if it is one of this webhook, without what is sent."""
        self._check_visible(webhook)
        return show(self.id, self.state, self.version)

    @command(allow=KNOWN, checks_if_match=False)
    async def replay(self, webhook: str | None = None) -> DeliveryInfo:
        """Send it once more, under the same ID, whatever came of it; it is retried as at first."""
        self._check_visible(webhook)
        self.check_if_match()
        self.state.tries, self.state.reason = 0, ""
        self.state.replays += 1
        self._send_in(0.0)
        record(self, "webhook.replayed", target=self.id)
        return show(self.id, self.state, self.version + 1)

    @command(allow=services())
    async def erase(self) -> None:
        """Go, because the webhook is gone."""
        await self.delete()

    @command(allow=services())
    async def expire(self) -> None:
        """Go, if the delivery is older than the log is kept."""
        if self.state.at + self.settings.delivery_age <= self.now:
            await self.delete()

    async def on_alarm(self, alarm: Alarm) -> None:
        if self.state.status != "pending":
            return
        async with self.sends.turn(self.state.webhook, self.state.owner) as admitted:
            try:
                await self._attempt(admitted)
            except Failure as failure:
                if not failure.retryable:
                    raise
                self._put_off()

    async def _attempt(self, admitted: bool) -> None:
        if not admitted:
            self._put_off()
            return
        target = msgspec.convert(await self.call(TYPE, self.state.webhook, "target"), Target | None)
        if target is None:
            await self.delete()
        elif not target.active:
            self._fail("the webhook is not active")
        elif body := await self.owners.payload(target.owner, target.key, self._event()):
            await self._send(target, body)
        else:
            self._fail("the webhook's owner may not see the event")

    async def _send(self, target: Target, body: bytes) -> None:
        began = time.monotonic()
        status, error = await self._post(target, body)
        self.state.add(Tried(self.now, status, round(time.monotonic() - began, 3), error[:ERROR_LIMIT]))
        if status is not None and 200 <= status <= 299:
            self._succeed(target)
        else:
            self._retry(target, status, error or f"the receiver has answered {status}")

    async def _post(self, target: Target, body: bytes) -> tuple[int | None, str]:
        """The status of the answer, or why there was none."""
        try:
            secrets = [self.sealer.open(sealed, TYPE, self.state.webhook).decode() for sealed in target.secrets]
            answer = await self.sender.send(target.url, body, headers(self.id, time.time(), body, secrets))
        except Failure as failure:
            return None, failure.detail
        except SealError as error:
            return None, f"the webhook's secret can't be read: {error}"
        return answer.status, ""

    def _event(self) -> Delivery:
        return Delivery(self.state.subject, self.state.event.encode(), self.state.event_id, position="0")

    def _succeed(self, target: Target) -> None:
        self.state.status, self.state.ended_at = "delivered", self.now
        if target.failing_since is not None:
            self.tell(TYPE, self.state.webhook, "recover")

    def _retry(self, target: Target, status: int | None, why: str) -> None:
        """Try again later, or give up: the delivery after its last attempt, the webhook after a long time."""
        if target.failing_since is None:
            self.tell(TYPE, self.state.webhook, "fail", at=self.now)
        elif self.now - target.failing_since >= self.settings.webhook_patience:
            self.tell(TYPE, self.state.webhook, "disable", reason="deliveries have failed for too long")
        if status == GONE:
            self.tell(TYPE, self.state.webhook, "disable", reason="the receiver has answered 410")
            self._fail(why)
        elif self.state.tries > len(self.pauses):
            self._fail(why)
        else:
            self._send_in(self.pauses[self.state.tries - 1] * random.uniform(1.0, 1.0 + JITTER))  # noqa: S311

    def _fail(self, reason: str) -> None:
        self.state.status, self.state.ended_at, self.state.reason = "failed", self.now, reason[:ERROR_LIMIT]

    def _put_off(self) -> None:
        self._send_in(PUT_OFF * random.uniform(1.0, 2.0))  # noqa: S311

    def _send_in(self, seconds: float) -> None:
        self.state.status, self.state.next_at = "pending", self.now + seconds
        self.alarms.set(SEND, in_=seconds)

    def _check_visible(self, webhook: str | None) -> None:
        state = self.state
        known = self.caller.acts_for(state.owner, OWN_WEBHOOKS) or self.caller.has(MANAGE_WEBHOOKS)
        if state.status == "none" or webhook not in (None, state.webhook) or not known:
            raise Failure("not-found", "there is no such delivery")
