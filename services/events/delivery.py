"""A delivery: one event for one webhook, until it has arrived or is given up.

Promises: an event is sent at least once, always under one `webhook-id`, also across crashes: the
outcome of an attempt is committed together with the time of the next one. Each attempt checks again
that the webhook's owner may see the event. After the last attempt, the delivery has failed and says
why; a replay starts from the beginning.
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
from aidevos.feeds.webhook_sender import WebhookSender
from aidevos.feeds.webhook_signatures import sign_headers
from aidevos.observability.metrics import WEBHOOK_DELIVERIES, WEBHOOK_SECONDS
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
# Seconds by which a delivery is postponed if it got no slot or if the owner's access couldn't be checked.
POSTPONEMENT = 5.0
# The fraction by which a pause may exceed the setting, so that deliveries that failed together spread out.
JITTER = 0.1
ERROR_LIMIT = 200
GONE = 410
# Seconds between attempts.
Pauses = NewType("Pauses", tuple[float, ...])


class DeliveryDO(BaseDurableObject[DeliveryState], type=DELIVERY_TYPE, management="read_only"):
    """One event for one webhook. Its ID derives from both."""

    settings: Settings = inject()
    pauses: Pauses = inject()
    sealer: Sealer = inject()
    sender: WebhookSender = inject()
    sends: Sends = inject()
    owners: Owners = inject()
    # An event can be as large as an object's outbox.
    state_limit = 3 * 1024 * 1024
    searches = (Search(SEARCH, services(), *FIND),)

    @command(allow=services(), creates=True)
    async def begin(self, webhook: str, owner: str, subject: str, event_id: str, event: str) -> None:
        """Start the delivery of this event; do nothing if it has already started."""
        if self.state.status != "none":
            return
        self.state = DeliveryState(
            webhook=webhook, owner=owner, subject=subject, event_id=event_id, event=event, at=self.now
        )
        self._send_at(self.now)

    @query(allow=KNOWN)
    async def read(self, webhook: str | None = None) -> DeliveryInfo:
        """Return the delivery without its content. Raises `not-found` if it belongs to another webhook."""
        self._check_visible(webhook)
        return show(self.id, self.state, self.version)

    @command(allow=KNOWN, checks_if_match=False)
    async def replay(self, webhook: str | None = None) -> DeliveryInfo:
        """Send the event again under the same ID, whatever the outcome was, with the usual retries."""
        self._check_visible(webhook)
        self.check_if_match()
        self.state.tries, self.state.reason = 0, ""
        self.state.replays += 1
        self._send_at(self.now)
        record(self, "webhook.replayed", target=self.id)
        return show(self.id, self.state, self.version + 1)

    @command(allow=services())
    async def erase(self) -> None:
        """Delete the delivery because its webhook was deleted."""
        await self.delete()

    @command(allow=services())
    async def expire(self) -> None:
        """Delete the delivery if it is older than `delivery_age`."""
        if self.state.at + self.settings.delivery_age <= self.now:
            await self.delete()

    async def on_alarm(self, alarm: Alarm) -> None:
        if self.state.status != "pending":
            return
        self._turn_began = time.monotonic()
        async with self.sends.turn(self.state.webhook, self.state.owner) as admitted:
            try:
                await self._attempt(admitted)
            except Failure as failure:
                if not failure.retryable:
                    raise
                self._postpone()

    async def _attempt(self, admitted: bool) -> None:
        if not admitted:
            self._postpone()
            return
        target = msgspec.convert(await self.call(TYPE, self.state.webhook, "target"), Target | None)
        if target is None:
            await self.delete()
        elif not target.active:
            self._give_up("the webhook is inactive", self._time())
        elif body := await self.owners.show_event(target.owner, target.key, self._event()):
            await self._send(target, body)
        else:
            self._give_up("the webhook's owner may not see the event", self._time())

    async def _send(self, target: Target, body: bytes) -> None:
        began = self._time()
        status, error = await self._post(target, body)
        ended = self._time()
        WEBHOOK_SECONDS.observe(ended - began)
        self.state.add(Tried(began, status, round(ended - began, 3), error[:ERROR_LIMIT]))
        if status is not None and 200 <= status <= 299:
            self._succeed(target, ended)
        else:
            self._retry(target, status, error or f"the receiver responded with {status}", ended)

    async def _post(self, target: Target, body: bytes) -> tuple[int | None, str]:
        """Return the response's status and "", or None and the reason why the receiver didn't respond."""
        try:
            secrets = [self.sealer.open(sealed, TYPE, self.state.webhook).decode() for sealed in target.secrets]
            response = await self.sender.send(target.url, body, sign_headers(self.id, time.time(), body, secrets))
        except Failure as failure:
            return None, failure.detail
        except SealError as error:
            return None, f"the webhook's secret can't be read: {error}"
        return response.status, ""

    def _event(self) -> Delivery:
        return Delivery(self.state.subject, self.state.event.encode(), self.state.event_id, position="0")

    def _time(self) -> float:
        """Return the present time. `self.now` is when the turn began, and an attempt may take long."""
        return self.now + time.monotonic() - self._turn_began

    def _succeed(self, target: Target, ended: float) -> None:
        WEBHOOK_DELIVERIES.labels("delivered").inc()
        self.state.status, self.state.ended_at = "delivered", ended
        if target.failing_since is not None:
            self.tell(TYPE, self.state.webhook, "recover")

    def _retry(self, target: Target, status: int | None, why: str, ended: float) -> None:
        """Schedule the next attempt, or give up: the delivery after its last attempt, the webhook after a long time."""
        if target.failing_since is None:
            self.tell(TYPE, self.state.webhook, "fail", at=self.now)
        elif self.now - target.failing_since >= self.settings.webhook_patience:
            self.tell(TYPE, self.state.webhook, "disable", reason="deliveries have failed for too long")
        if status == GONE:
            self.tell(TYPE, self.state.webhook, "disable", reason="the receiver responded with 410")
            self._give_up(why, ended)
        elif self.state.tries > len(self.pauses):
            self._give_up(why, ended)
        else:
            WEBHOOK_DELIVERIES.labels("failed").inc()
            pause = self.pauses[self.state.tries - 1] * random.uniform(1.0, 1.0 + JITTER)  # noqa: S311
            self._send_at(ended + pause)

    def _give_up(self, reason: str, at: float) -> None:
        WEBHOOK_DELIVERIES.labels("given_up").inc()
        self.state.status, self.state.ended_at, self.state.reason = "failed", at, reason[:ERROR_LIMIT]

    def _postpone(self) -> None:
        self._send_at(self.now + POSTPONEMENT * random.uniform(1.0, 2.0))  # noqa: S311

    def _send_at(self, at: float) -> None:
        self.state.status, self.state.next_at = "pending", at
        self.alarms.set(SEND, at=at)

    def _check_visible(self, webhook: str | None) -> None:
        state = self.state
        known = self.caller.acts_for(state.owner, OWN_WEBHOOKS) or self.caller.has(MANAGE_WEBHOOKS)
        if state.status == "none" or webhook not in (None, state.webhook) or not known:
            raise Failure("not-found", "this delivery doesn't exist")
