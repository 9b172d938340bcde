"""The pace of the clients, which decides when each one takes its next step.

Most bugs show for moments only: while a partition moves, or just when a paused host goes on. So a client waits for its
next step, but hurries when something like that happens.
"""

from __future__ import annotations

import asyncio
import random

from aidevos.testing.simulation.loop import VirtualLoop

# Seconds for which all clients hurry, and the mean of their pauses meanwhile.
HURRY_FOR, SOON = 0.015, 0.002


class Pace:
    """The pace of all clients of a run."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._hurry_until = 0.0
        self._waiting: dict[asyncio.Future[None], None] = {}

    async def wait(self, seconds: float) -> None:
        """Wait for so many seconds, or until something happens."""
        if self._loop.now < self._hurry_until:
            seconds = min(seconds, self._soon())
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting[done] = None
        timer = self._loop.call_later(seconds, _end, done)
        try:
            await done
        finally:
            timer.cancel()
            del self._waiting[done]

    def hurry(self) -> None:
        """Let all clients take their next steps soon."""
        if self._loop.now + HURRY_FOR / 2 < self._hurry_until:
            return
        self._hurry_until = self._loop.now + HURRY_FOR
        for each in self._waiting:
            self._loop.world.call(_end, each, delay=self._soon())

    def _soon(self) -> float:
        return self._rng.expovariate(1 / SOON)


def _end(wait: asyncio.Future[None]) -> None:
    if not wait.done():
        wait.set_result(None)
