"""The links between the simulated processes and the servers.

A link is a TCP connection: what one end sends arrives at the other in order, late, or never if the link breaks. A cut
link holds everything back until it is restored or broken. Nothing says which of the last bytes have arrived.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from aidevos.testing.simulation.loop import Process, VirtualLoop


class Latency:
    """How long messages and disks take, in seconds. `slow` is the share of slow ones, which take up to `longest`."""

    def __init__(self, rng: random.Random, usual: float = 0.001, slow: float = 0.02, longest: float = 0.05) -> None:
        self._rng = rng
        self.usual = usual
        self.slow = slow
        self.longest = longest

    def draw(self) -> float:
        chance = self._rng.random()
        if chance < self.slow:
            return chance / self.slow * self.longest
        return (chance - self.slow) / (1 - self.slow) * self.usual


class Pipe:
    """One direction of a link. `deliver` runs in the receiving process."""

    def __init__(self, loop: VirtualLoop, receiver: Process, latency: Latency, deliver: Callable[..., object]) -> None:
        self._loop = loop
        self._receiver = receiver
        self._latency = latency
        self._deliver = deliver
        self._last = 0.0
        self._open = True
        self._held: deque[tuple[object, ...]] | None = None

    def send(self, *message: object) -> None:
        if not self._open:
            return
        if self._held is not None:
            self._held.append(message)
            return
        at = self._loop.now + self._latency.draw()
        if at > self._last:
            self._last = at
        self._loop.arrive_at(self._last, self._receiver, self, self._arrive, *message)

    def hold(self) -> None:
        """Hold back everything that is sent from now on."""
        if self._held is None:
            self._held = deque()

    def restore(self) -> None:
        """Send what was held back."""
        held, self._held = self._held or deque(), None
        for message in held:
            self.send(*message)

    def close(self) -> None:
        """Lose everything that has not arrived."""
        self._open = False

    def _arrive(self, *message: object) -> None:
        if self._open:
            self._deliver(*message)
