"""Timers that many waits share. A timer of the event loop for each would cost more than most waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

# Seconds by which a shared timer is late at most, and from which on a wait shares one.
STEP, LONG = 0.02, 0.25


class Waiter(Protocol):
    """Something that waits for a time."""

    def wake(self) -> None: ...


class SharedTimers:
    """Wakes waiters. Those that wait for at least `LONG` seconds share a timer for each `STEP` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, dict[Waiter, None]] = {}

    def start(self, waiter: Waiter, seconds: float) -> Callable[[], object]:
        """Wake the waiter after this time, unless the returned function is called before."""
        if seconds < LONG:
            return self._loop.call_later(seconds, waiter.wake).cancel
        slot = int((self._loop.time() + seconds) / STEP) + 1
        waiters = self._waiting.get(slot)
        if waiters is None:
            waiters = self._waiting[slot] = {}
            self._loop.call_at(slot * STEP, self._ring, slot)
        waiters[waiter] = None
        return partial(waiters.pop, waiter, None)

    def _ring(self, slot: int) -> None:
        for waiter in tuple(self._waiting.pop(slot)):
            waiter.wake()
