"""A worker: takes tasks of the kinds that it has handlers for, as many at a time as it has slots.

Promises: an event says that there is something to do, not what: the worker takes the task that is first in line,
so priorities count whatever the order in which the bus delivers. It takes an event only while a slot is free, and
acknowledges it when it has started a task, or none is due. Where events are lost, or come late, it looks by
itself: whenever a slot becomes free, and every `task_poll` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from aidevos.contracts import tasks
from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import Assignment
from aidevos.durable.bus.port import Delivery, EventBus, Subscription
from aidevos.durable.client.client import DurableObjectClient
from aidevos.work.attempt import Attempt
from aidevos.work.handlers import Handlers

log = logging.getLogger(__name__)
# Tasks that are looked at together, and how often others may be faster with all of them.
CANDIDATES = 10
LOOKS = 20
# A wake-up that fails is no loss: the worker looks by itself.
WAKE_ATTEMPTS = 5


class _Queued(msgspec.Struct):
    kind: str


class _Event(msgspec.Struct):
    data: _Queued


_event = msgspec.json.Decoder(_Event)


class Worker:
    """`name` says which process it is; `group` is shared by all workers with the same handlers."""

    def __init__(
        self,
        handlers: Handlers,
        objects: DurableObjectClient,
        bus: EventBus,
        *,
        name: str,
        group: str,
        slots: int,
        poll: float,
    ) -> None:
        self._handlers = handlers
        self._objects = objects
        self._bus = bus
        self._name = name
        self._group = group
        self._slots = slots
        self._poll = poll
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._taking = asyncio.Lock()
        self._look = asyncio.Event()
        self._draining = False
        self._subscription: Subscription | None = None

    async def run(self) -> None:
        """Take tasks until cancelled. Raises `BusError` when nothing can be heard of them."""
        self._subscription = await self._bus.subscribe(
            tasks.QUEUED, self._group, self._wake, self._forget, attempts=WAKE_ATTEMPTS, at_once=1
        )
        while True:
            try:
                while await self._take():
                    pass
                if self._has_room():
                    await self._subscription.resume()
            except Failure as failure:
                log.warning("looking for tasks failed, trying again: %s", failure)
            self._look.clear()
            timer = asyncio.get_running_loop().call_later(self._poll, self._look.set)
            await self._look.wait()
            timer.cancel()

    async def drain(self, within: float) -> None:
        """Take nothing more and end: what isn't done in so many seconds goes back to its task."""
        self._draining = True
        if self._subscription is not None:
            await self._subscription.close()
        async with self._taking:
            running = dict(self._attempts)
        if running:
            await asyncio.wait(running, timeout=within)
        for attempt in self._attempts.values():
            attempt.give_back()
        await asyncio.gather(*self._attempts, return_exceptions=True)

    async def _wake(self, delivery: Delivery) -> None:
        """A task is due: start the first in line."""
        try:
            kind = _event.decode(delivery.payload).data.kind
        except msgspec.DecodeError:
            return
        if kind in self._handlers and not await self._take() and not self._has_room():
            # It was on its way when the last slot was taken: another worker may have one.
            raise Failure("overloaded", "this worker has no free slot")

    async def _forget(self, delivery: Delivery, failure: Failure) -> None:
        log.warning("a wake-up for tasks failed, which are found all the same: %s", failure)

    async def _take(self) -> bool:
        """Start the task that is first in line; whether there was one, and a slot for it. Raises `Failure`."""
        async with self._taking:
            for _ in range(LOOKS):
                if not self._has_room():
                    return False
                args = {"kinds": list(self._handlers), "limit": CANDIDATES}
                due = await self._objects.query(tasks.TYPE, tasks.DUE, args)
                for id in due:
                    assignment = await self._start(id)
                    if assignment is not None:
                        await self._begin(assignment)
                        return True
                if not due:
                    return False
        return False

    async def _start(self, id: str) -> Assignment | None:
        """The next attempt at a task; None where somebody else was faster, or the task is gone."""
        try:
            given: Any = await self._objects.call(tasks.TYPE, id, "start", {"worker": self._name})
        except Failure as failure:
            if failure.code in ("conflict", "not-found"):
                return None
            raise
        return msgspec.convert(given, Assignment)

    async def _begin(self, assignment: Assignment) -> None:
        attempt = Attempt(assignment, self._handlers[assignment.kind], self._objects)
        running = asyncio.create_task(attempt.run())
        self._attempts[running] = attempt
        running.add_done_callback(self._ended)
        if not self._has_room() and self._subscription is not None:
            await self._subscription.pause()

    def _has_room(self) -> bool:
        return not self._draining and len(self._attempts) < self._slots

    def _ended(self, running: asyncio.Task[None]) -> None:
        if not running.cancelled() and running.exception() is not None:
            log.error("an attempt was not reported", exc_info=running.exception())
        del self._attempts[running]
        self._look.set()
