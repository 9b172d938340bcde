"""The fan-out of events to deliveries, by the group `webhooks` of all processes of this service.

Promise: an event is acknowledged once there is a delivery for each webhook that wants it and whose
owner may see it. A delivery's ID derives from webhook and event, so a repeated event creates no second
one. An event for which this fails becomes a dead letter for each webhook that wants it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.webhooks import CHANGED, DELIVERY_TYPE, SEARCH, TYPE, WebhookInfo, WebhookPage, delivery_id
from aidevos.feeds import Delivery, EventBus, EventStream, Mirror, bury, read_all
from aidevos.feeds.shown_events import parse_event

from .owners import Owners
from .subscriptions import Subscriptions, wants

GROUP = "webhooks"
# Webhooks beyond this number, in order of creation, receive nothing.
MAX_WEBHOOKS = 100_000
# Deliveries of one event that are started concurrently, in the process that handles the event.
AT_ONCE = 32
# The types whose events never go to a webhook, since webhooks cause them.
OWN = (TYPE, DELIVERY_TYPE)


async def fan_out(bus: EventBus, objects: DurableObjectClient, owners: Owners) -> None:
    """Start the deliveries of every event until cancelled. Raises `BusError`."""
    await FanOut(bus, objects, owners).run()


class FanOut:
    def __init__(self, bus: EventBus, objects: DurableObjectClient, owners: Owners) -> None:
        self._bus = bus
        self._objects = objects
        self._owners = owners
        self._webhooks = Subscriptions()
        self._loaded = asyncio.Event()

    async def run(self) -> None:
        """Handle events until cancelled. Raises `BusError`."""
        stream = EventStream(self._bus, since=0.0)
        mirror = Mirror(stream, "webhooks", CHANGED, self._read)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.follow())
            tasks.create_task(mirror.follow())
            await self._loaded.wait()
            subscription = await self._bus.subscribe(subjects.EVENTS, GROUP, self.handle, self.bury)
            try:
                await asyncio.Event().wait()
            finally:
                await subscription.close()

    async def handle(self, delivery: Delivery) -> None:
        """Start the deliveries of an event."""
        found = self._candidates(delivery)
        event = parse_event(delivery.subject, delivery.payload) if found else None
        if event is None:
            return
        at_once = asyncio.Semaphore(AT_ONCE)

        async def begin(webhook: WebhookInfo) -> None:
            async with at_once:
                if await self._owners.may_see(webhook.owner, webhook.key, event):
                    id = delivery_id(webhook.id, delivery.id)
                    await self._objects.call(DELIVERY_TYPE, id, "begin", _begin_arguments(webhook, delivery))

        begun = await asyncio.gather(
            *(begin(webhook) for webhook in found if wants(webhook, event)), return_exceptions=True
        )
        for outcome in begun:
            if isinstance(outcome, BaseException):
                raise outcome

    async def bury(self, delivery: Delivery, failure: Failure) -> None:
        """Create a dead letter for each webhook; replaying one starts that webhook's delivery."""
        for webhook in self._candidates(delivery):
            id = delivery_id(webhook.id, delivery.id)
            letter = Letter(
                id=letter_id(TYPE, webhook.id, delivery.id),
                kind="event",
                source=subjects.join_object_id(TYPE, webhook.id),
                subject=subjects.call(DELIVERY_TYPE, id, "begin"),
                payload=msgspec.json.encode(_begin_arguments(webhook, delivery)),
                code=failure.code,
                detail=failure.detail,
                attempts=delivery.attempt,
                at=time.time(),
            )
            await bury(self._objects, letter)

    def _candidates(self, delivery: Delivery) -> list[WebhookInfo]:
        _, type, _, name = (*delivery.subject.split("."), "", "", "")[:4]
        return [] if type in OWN else self._webhooks.candidates(type, name)

    async def _read(self) -> None:
        subject = subjects.query(TYPE, SEARCH)
        found = await read_all(self._objects, None, subject, WebhookPage, MAX_WEBHOOKS)
        self._webhooks = Subscriptions(found)
        self._loaded.set()


def _begin_arguments(webhook: WebhookInfo, delivery: Delivery) -> dict[str, Any]:
    return {
        "webhook": webhook.id,
        "owner": webhook.owner,
        "subject": delivery.subject,
        "event_id": delivery.id,
        "event": delivery.payload.decode(),
    }
