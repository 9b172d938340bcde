"""Lanes: the outbox entries of one object that are sent one after another.

However many objects have something to send, `Senders` work on at most `AT_ONCE` lanes at a time; the others wait
without a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.turns.activation import Activation

log = logging.getLogger(__name__)
BACKOFF = Backoff(0.05, 5.0)
# Lanes that are in progress at once: a bound on the process's memory and load.
AT_ONCE = 256


class Lane:
    """Entries of one object that are sent one after another: its events, or its tells to one object."""

    __slots__ = ("activation", "attempts", "conflicts", "name", "numbers")

    def __init__(self, activation: Activation, name: str) -> None:
        self.activation = activation
        self.name = name
        self.numbers: deque[int] = deque()
        # Of the first entry.
        self.attempts = 0
        self.conflicts = 0


class Senders:
    """At most `AT_ONCE` tasks that send lanes. A lane that fails waits for its next attempt without a task."""

    def __init__(self, send: Callable[[Lane], Awaitable[bool]]) -> None:
        self._send = send
        self._ready: deque[Lane] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, lane: Lane) -> None:
        """Send a lane as soon as there is a free task."""
        self._ready.append(lane)
        if len(self._tasks) < AT_ONCE and not self._closed:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop sending."""
        self._closed = True
        await cancel_and_wait(list(self._tasks))

    async def _work(self) -> None:
        while self._ready:
            lane = self._ready.popleft()
            if not await self._try(lane):
                call_after_pause(self.start, lane)

    async def _try(self, lane: Lane) -> bool:
        try:
            return await self._send(lane)
        except Exception:
            log.exception(
                "%s: sending to %r failed in an unexpected way",
                lane.activation.object_id,
                lane.name,
                extra=lane.activation.log_fields,
            )
            return False


def call_after_pause(start: Callable[[Lane], None], lane: Lane) -> None:
    """Start a lane again after a pause that grows with its attempts."""
    asyncio.get_running_loop().call_later(BACKOFF.pause(max(lane.attempts, 1)), start, lane)
