"""A worker, which takes tasks of the kinds that it has handlers for, at most one per slot at a time.

Promises: an event only says that some task is due. The worker takes the task that is first in line, so priorities
hold in whatever order the bus delivers. It receives events only while a slot is free, and acknowledges one when it
has started a task or none is due. If events are lost or late, it finds tasks by itself, whenever a slot becomes free
and every `task_poll` seconds.
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
from aidevos.observability.metrics import TASKS_RUNNING
from aidevos.work.attempt import Attempt
from aidevos.work.handlers import Handlers

log = logging.getLogger(__name__)
# Tasks per look-up, and how many look-ups may lose all of their tasks to other workers.
CANDIDATES = 10
MAX_LOOK_UPS = 20
# A failed wake-up does no harm, because the worker also polls.
WAKE_ATTEMPTS = 5


class _Queued(msgspec.Struct):
    kind: str


class _Event(msgspec.Struct):
    data: _Queued


_event = msgspec.json.Decoder(_Event)


class Worker:
    """A worker in this process.

    `name` identifies the process, and all workers with the same handlers share one `group`. `poll` is in seconds.
    """

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
        self._poll_now = asyncio.Event()
        self._draining = False
        self._subscription: Subscription | None = None
        TASKS_RUNNING.read_from(self, lambda worker: {(): len(worker._attempts)})

    async def run(self) -> None:
        """Take tasks until cancelled. Raises `BusError` if the subscription fails."""
        self._subscription = await self._bus.subscribe(
            tasks.QUEUED, self._group, self._wake, self._on_wake_failed, attempts=WAKE_ATTEMPTS, at_once=1
        )
        while True:
            try:
                while await self._take():
                    pass
                if self._has_room():
                    await self._subscription.resume()
            except Failure as failure:
                log.warning("looking for tasks failed, trying again: %s", failure)
            self._poll_now.clear()
            timer = asyncio.get_running_loop().call_later(self._poll, self._poll_now.set)
            await self._poll_now.wait()
            timer.cancel()

    async def drain(self, within: float) -> None:
        """Take no more tasks. Return those to the queue that aren't done `within` seconds."""
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
        """Handle an event that a task is due: start the task that is first in line."""
        try:
            kind = _event.decode(delivery.payload).data.kind
        except msgspec.DecodeError:
            return
        if kind in self._handlers and not await self._take() and not self._has_room():
            # The event was in transit when the last slot was taken. Another worker may have a free one.
            raise Failure("overloaded", "this worker has no free slot")

    async def _on_wake_failed(self, delivery: Delivery, failure: Failure) -> None:
        log.warning("a wake-up for tasks failed, polling finds them: %s", failure)

    async def _take(self) -> bool:
        """Start the task that is first in line. Return False without a due task or a free slot. Raises `Failure`."""
        async with self._taking:
            for _ in range(MAX_LOOK_UPS):
                if not self._has_room():
                    return False
                kinds = list(self._handlers)
                due = await self._objects.query(tasks.TYPE, tasks.DUE, kinds=kinds, limit=CANDIDATES)
                for id in due:
                    assignment = await self._start_attempt(id)
                    if assignment is not None:
                        await self._run_attempt(assignment)
                        return True
                if not due:
                    return False
        return False

    async def _start_attempt(self, id: str) -> Assignment | None:
        """Start an attempt at a task, and return it, or None if another worker was faster or the task is gone."""
        try:
            assignment: Any = await self._objects.call(tasks.TYPE, id, "start", worker=self._name)
        except Failure as failure:
            if failure.code in ("conflict", "not-found"):
                return None
            raise
        return msgspec.convert(assignment, Assignment)

    async def _run_attempt(self, assignment: Assignment) -> None:
        attempt = Attempt(assignment, self._handlers[assignment.kind], self._objects)
        running = asyncio.create_task(attempt.run())
        self._attempts[running] = attempt
        running.add_done_callback(self._on_attempt_done)
        if not self._has_room() and self._subscription is not None:
            await self._subscription.pause()

    def _has_room(self) -> bool:
        return not self._draining and len(self._attempts) < self._slots

    def _on_attempt_done(self, running: asyncio.Task[None]) -> None:
        if not running.cancelled() and running.exception() is not None:
            log.error("an attempt failed without a report", exc_info=running.exception())
        del self._attempts[running]
        self._poll_now.set()
