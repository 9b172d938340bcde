"""The objects that are in memory: by their last use, and with what they take.

Promise: nothing here costs more because more objects are in memory. The memory is a running total, and the longest
unused object is at the top of a heap.

An object's use doesn't touch the heap. An entry may therefore be older than the last use of its object; it is moved
when it comes to the top.

An object that wasn't used for some seconds rests: only its encoded state stays in memory, until its next turn. Those
that are awake are looked at every few seconds, and those that rest are not.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Iterator
from itertools import count

from aidevos.durable.turns.activation import Activation


class Tally:
    """A tally of the objects of one type. `senders` are those with entries in their outboxes."""

    __slots__ = ("entries", "memory", "objects", "senders")

    def __init__(self) -> None:
        self.objects = 0
        self.memory = 0
        self.entries = 0
        self.senders: dict[Activation, None] = {}


class Residents:
    """The loaded activations of one process.

    `limit` is the bound of their memory in bytes, and `rest_after` the time in seconds without a turn after which one
    rests.
    """

    def __init__(self, limit: int, rest_after: float) -> None:
        self._limit = limit
        self._rest_after = rest_after
        self.tallies: dict[str, Tally] = {}
        self._uses: list[tuple[float, int, Activation]] = []
        self._serial = count()
        # The objects that don't rest. `_to_look_at` are those that are left of a look at all of them.
        self._awake: dict[Activation, None] = {}
        self._to_look_at: dict[Activation, None] = {}
        self._next_look = 0.0
        self.memory = 0
        # Set while memory exceeds its bound.
        self.pressed = asyncio.Event()

    def add(self, activation: Activation) -> None:
        """Count an activation that was just loaded."""
        activation.counted = True
        self.tallies.setdefault(activation.type.name, Tally()).objects += 1
        self._push(activation, activation.last_used)
        self._awake[activation] = None
        self.recount(activation)

    def rouse(self, activation: Activation) -> None:
        """End the rest of an activation, because it has a turn."""
        activation.rouse()
        self._awake[activation] = None
        self.recount(activation)

    def recount(self, activation: Activation) -> None:
        """Count an activation again, because its state or outbox has changed."""
        if activation.counted:
            weight, entries = activation.weigh(), len(activation.outbox)
            if weight != activation.counted_weight or entries != activation.counted_entries:
                self._count(activation, weight, entries)

    def remove(self, activation: Activation) -> None:
        """Forget an activation that leaves memory."""
        self._awake.pop(activation, None)
        self._to_look_at.pop(activation, None)
        if activation.counted:
            self.tallies[activation.type.name].objects -= 1
            self._count(activation, 0, 0)
            activation.counted = False

    @property
    def entries(self) -> int:
        """The outbox entries of all objects."""
        return sum(tally.entries for tally in self.tallies.values())

    @property
    def senders(self) -> int:
        """The number of objects that have outbox entries."""
        return sum(len(tally.senders) for tally in self.tallies.values())

    def unused_since(self, moment: float) -> Iterator[Activation | None]:
        """Yield the activations that were last used before this moment, the longest unused one first.

        None means that an entry was only moved. An activation that isn't removed then is yielded again only in a later
        iteration.
        """
        while self._uses and self._uses[0][0] <= moment:
            _, _, activation = heapq.heappop(self._uses)
            if not activation.counted:
                yield None
            elif activation.last_used > moment or (self._uses and activation.last_used > self._uses[0][0]):
                self._push(activation, activation.last_used)
                yield None
            else:
                try:
                    yield activation
                finally:
                    if activation.counted:
                        self._push(activation, math.nextafter(max(moment, activation.last_used), math.inf))

    def rest_unused(self, now: float) -> Iterator[None]:
        """Let the activations rest that had no turn for some time. Those that are awake are looked at that often."""
        if now < self._next_look:
            return
        self._next_look = now + self._rest_after
        self._to_look_at.update(self._awake)
        self._awake = {}
        while self._to_look_at:
            activation, _ = self._to_look_at.popitem()
            if activation.last_used <= now - self._rest_after and activation.may_rest:
                activation.rest()
                self.recount(activation)
            else:
                self._awake[activation] = None
            yield

    def _push(self, activation: Activation, used: float) -> None:
        heapq.heappush(self._uses, (used, next(self._serial), activation))

    def _count(self, activation: Activation, weight: int, entries: int) -> None:
        tally, grown = self.tallies[activation.type.name], weight - activation.counted_weight
        if entries != activation.counted_entries:
            tally.entries += entries - activation.counted_entries
            if not entries:
                del tally.senders[activation]
            elif not activation.counted_entries:
                tally.senders[activation] = None
        activation.counted_weight, activation.counted_entries = weight, entries
        self.memory += grown
        tally.memory += grown
        if self.memory > self._limit:
            self.pressed.set()
        else:
            self.pressed.clear()
