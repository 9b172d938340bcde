"""The objects that are in memory: by their last use, and with what they take.

Promise: nothing here costs more because more objects are in memory. The memory is a running total, and the longest
unused object is at the top of a heap.

An object's use doesn't touch the heap. An entry may therefore be older than the last use of its object; it is moved
when it comes to the top.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Iterator
from itertools import count

from aidevos.durable.turns.activation import Activation


class Residents:
    """The loaded activations of one process. `limit` is the bound of their memory in bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[Activation, tuple[int, int]] = {}
        self._uses: list[tuple[float, int, Activation]] = []
        self._serial = count()
        self.memory = 0
        # Outbox entries, and the objects that have some.
        self.entries = 0
        self.senders = 0
        # Set while memory exceeds its bound.
        self.pressed = asyncio.Event()

    def add(self, activation: Activation) -> None:
        """Count an activation that was just loaded."""
        self._sizes[activation] = (0, 0)
        self._push(activation, activation.last_used)
        self.recount(activation)

    def recount(self, activation: Activation) -> None:
        """Count an activation again, because its state or outbox has changed."""
        before = self._sizes.get(activation)
        if before is not None:
            self._sizes[activation] = now = (activation.weigh(), len(activation.outbox))
            self._count(before, now)

    def remove(self, activation: Activation) -> None:
        """Forget an activation that leaves memory."""
        before = self._sizes.pop(activation, None)
        if before is not None:
            self._count(before, (0, 0))

    def unused_since(self, moment: float) -> Iterator[Activation | None]:
        """Yield the activations that were last used before this moment, the longest unused one first.

        None means that an entry was only moved. An activation that isn't removed then is yielded again only in a later
        iteration.
        """
        while self._uses and self._uses[0][0] <= moment:
            _, _, activation = heapq.heappop(self._uses)
            if activation not in self._sizes:
                yield None
            elif activation.last_used > moment or (self._uses and activation.last_used > self._uses[0][0]):
                self._push(activation, activation.last_used)
                yield None
            else:
                try:
                    yield activation
                finally:
                    if activation in self._sizes:
                        self._push(activation, math.nextafter(max(moment, activation.last_used), math.inf))

    def _push(self, activation: Activation, used: float) -> None:
        heapq.heappush(self._uses, (used, next(self._serial), activation))

    def _count(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        self.memory += after[0] - before[0]
        self.entries += after[1] - before[1]
        self.senders += bool(after[1]) - bool(before[1])
        if self.memory > self._limit:
            self.pressed.set()
        else:
            self.pressed.clear()
