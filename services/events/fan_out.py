"""The fan-out of events to deliveries, by one process of this service at a time.

Promise: an event is acknowledged once there is a delivery for each webhook that wants it and whose
owner may see it. A delivery's ID derives from webhook and event, so a repeated event creates no second
one. An event for which this fails becomes a dead letter for each webhook that wants it.

The bus delivers only events that some webhook wants, and changes of webhooks. Such a change is
acknowledged once the bus delivers what the webhook wants from now on, and whatever has happened since
the change was read and handled. So a webhook misses no event since its creation, even if a process dies
meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from aidevos import DurableObjectClient, Failure
from aidevos.contracts import subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.events import trace_of
from aidevos.contracts.webhooks import CHANGED, DELIVERY_TYPE, SEARCH, TYPE, WebhookInfo, WebhookPage, delivery_id
from aidevos.feeds import Batcher, Delivery, EventBus, EventStream, Mirror, bury, describe_event, read_all
from aidevos.feeds.shown_events import parse_event
from aidevos.observability import tracing

from .owners import Owners
from .subscriptions import Subscriptions, wants

GROUP = "webhooks"
# Webhooks beyond this number, in order of creation, receive nothing.
MAX_WEBHOOKS = 100_000
# Deliveries of one event that are started concurrently, in the process that handles the event.
AT_ONCE = 32
# Seconds by which a host's clock may be ahead of the bus's.
SKEW = 2.0


class _Timed(msgspec.Struct):
    time: datetime


async def fan_out(bus: EventBus, objects: DurableObjectClient, owners: Owners) -> None:
    """Start the deliveries of every event until cancelled. Raises `BusError`."""
    await FanOut(bus, objects, owners).run()


class FanOut:
    def __init__(self, bus: EventBus, objects: DurableObjectClient, owners: Owners) -> None:
        self._bus = bus
        self._objects = objects
        self._owners = owners
        self._webhooks = Subscriptions()
        self._reading = asyncio.Lock()
        self._loaded = asyncio.Event()
        # What the group gets, as far as this process has selected it.
        self._selected: list[str] = []
        self._changes: Batcher[float, None] = Batcher(self._apply_changes)

    async def run(self) -> None:
        """Handle events until cancelled. Raises `BusError`."""
        began = time.time()
        stream = EventStream(self._bus, since=0.0)
        mirror = Mirror(stream, "webhooks", CHANGED, self._read)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stream.follow())
            tasks.create_task(mirror.follow())
            await self._loaded.wait()
            self._selected = self._patterns()
            subscription = await self._bus.subscribe(
                subjects.EVENTS, GROUP, self.handle, self.bury, only=self._selected
            )
            try:
                await self._changes.get(began)
                await asyncio.Event().wait()
            finally:
                await subscription.close()

    async def handle(self, delivery: Delivery) -> None:
        """Start the deliveries of an event, or take note of a webhook's change."""
        if _is_change(delivery):
            await self._changes.get(_time_of(delivery))
            return
        with tracing.joining(trace_of(delivery.payload), "consumer", describe_event, delivery.subject):
            await self._begin_all(delivery)

    async def _begin_all(self, delivery: Delivery) -> None:
        found = self._candidates(delivery)
        event = parse_event(delivery.subject, delivery.payload) if found else None
        if event is None:
            return
        at_once = asyncio.Semaphore(AT_ONCE)

        async def begin(webhook: WebhookInfo) -> None:
            async with at_once:
                if await self._owners.may_see(webhook.owner, webhook.key, event):
                    id = delivery_id(webhook.id, delivery.id)
                    await self._objects.call(DELIVERY_TYPE, id, "begin", **_begin_arguments(webhook, delivery))

        begun = await asyncio.gather(
            *(begin(webhook) for webhook in found if wants(webhook, event)), return_exceptions=True
        )
        for outcome in begun:
            if isinstance(outcome, BaseException):
                raise outcome

    async def bury(self, delivery: Delivery, failure: Failure) -> None:
        """Create a dead letter for each webhook; replaying one starts that webhook's delivery.

        A webhook's change is never given up.
        """
        if _is_change(delivery):
            raise failure
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
        return self._webhooks.candidates(type, name)

    def _patterns(self) -> list[str]:
        wanted = self._webhooks.patterns()
        return wanted if subjects.EVENTS in wanted else [CHANGED, *wanted]

    async def _read(self) -> None:
        async with self._reading:
            subject = subjects.query(TYPE, SEARCH)
            found = await read_all(self._objects, None, subject, WebhookPage, MAX_WEBHOOKS)
            self._webhooks = Subscriptions(found)
        self._loaded.set()

    async def _apply_changes(self, times: Sequence[float]) -> list[None]:
        """Let the group get what is wanted now. Handle what has been published since the first of these times."""
        while True:
            await self._read()
            wanted = self._patterns()
            if wanted == self._selected:
                # The read began after the selection, so no other process can have selected something older since.
                break
            await self._bus.select(subjects.EVENTS, GROUP, wanted)
            self._selected = wanted
        await self._catch_up(min(times))
        return [None] * len(times)

    async def _catch_up(self, since: float) -> None:
        """Start the deliveries of the events since a time. Those that have started before stay as they are."""
        patterns = self._webhooks.patterns()
        if not patterns:
            return
        async with aclosing(self._bus.follow(patterns, since=since - SKEW)) as events:
            async for event in events:
                if event is None:
                    return
                try:
                    await self._begin_all(event)
                except Failure as failure:
                    if failure.retryable:
                        raise
                    await self.bury(event, failure)


def _begin_arguments(webhook: WebhookInfo, delivery: Delivery) -> dict[str, Any]:
    return {
        "webhook": webhook.id,
        "owner": webhook.owner,
        "subject": delivery.subject,
        "event_id": delivery.id,
        "event": delivery.payload.decode(),
    }


def _is_change(delivery: Delivery) -> bool:
    beginning, end = CHANGED.split("*")
    return delivery.subject.startswith(beginning) and delivery.subject.endswith(end)


def _time_of(delivery: Delivery) -> float:
    """Return when an event happened, in seconds since the epoch."""
    return msgspec.json.decode(delivery.payload, type=_Timed).time.timestamp()
