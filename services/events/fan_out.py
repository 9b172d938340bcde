"""From the bus to the deliveries: the group `webhooks` of all processes of this service.

Promise: an event is acknowledged when there is a delivery of it for each webhook that wants it and whose owner
may see it. A delivery's ID is made of webhook and event, so an event that comes again makes none a second
time. An event for which that can't be brought about becomes a dead letter for each webhook that wants it.
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
# More webhooks than these, in the order in which they were made, are sent nothing.
MAX_WEBHOOKS = 100_000
# Deliveries of one event that are begun at once.
AT_ONCE = 32
# What webhooks bring about themselves is for none of them.
OWN = (TYPE, DELIVERY_TYPE)


async def fan_out(bus: EventBus, objects: DurableObjectClient, owners: Owners) -> None:
    """Begin the deliveries of every event until cancelled; raises `BusError`."""
    await FanOut(bus, objects, owners).run()


class FanOut:
    def __init__(self, bus: EventBus, objects: DurableObjectClient, owners: Owners) -> None:
        self._bus = bus
        self._objects = objects
        self._owners = owners
        self._webhooks = Subscriptions()
        self._loaded = asyncio.Event()

    async def run(self) -> None:
        """Hand events on until cancelled; raises `BusError`."""
        stream = EventStream(self._bus, since=0.0)
        mirror = Mirror(stream, "webhooks", CHANGED, self._read)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.follow())
            tasks.create_task(mirror.follow())
            await self._loaded.wait()
            subscription = await self._bus.subscribe(subjects.EVENTS, GROUP, self.hand_on, self.bury)
            try:
                await asyncio.Event().wait()
            finally:
                await subscription.close()

    async def hand_on(self, delivery: Delivery) -> None:
        """Begin the deliveries of an event."""
        found = self._candidates(delivery)
        event = parse_event(delivery.subject, delivery.payload) if found else None
        if event is None:
            return
        at_once = asyncio.Semaphore(AT_ONCE)

        async def begin(webhook: WebhookInfo) -> None:
            async with at_once:
                if await self._owners.may_see(webhook.owner, webhook.key, event):
                    id = delivery_id(webhook.id, delivery.id)
                    await self._objects.call(DELIVERY_TYPE, id, "begin", _beginning(webhook, delivery))

        begun = await asyncio.gather(
            *(begin(webhook) for webhook in found if wants(webhook, event)), return_exceptions=True
        )
        for outcome in begun:
            if isinstance(outcome, BaseException):
                raise outcome

    async def bury(self, delivery: Delivery, failure: Failure) -> None:
        """Make dead letters of it, each of which begins one delivery when it is replayed."""
        for webhook in self._candidates(delivery):
            id = delivery_id(webhook.id, delivery.id)
            letter = Letter(
                id=letter_id(TYPE, webhook.id, delivery.id),
                kind="event",
                source=subjects.join_object_id(TYPE, webhook.id),
                subject=subjects.call(DELIVERY_TYPE, id, "begin"),
                payload=msgspec.json.encode(_beginning(webhook, delivery)),
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


def _beginning(webhook: WebhookInfo, delivery: Delivery) -> dict[str, Any]:
    return {
        "webhook": webhook.id,
        "owner": webhook.owner,
        "subject": delivery.subject,
        "event_id": delivery.id,
        "event": delivery.payload.decode(),
    }
