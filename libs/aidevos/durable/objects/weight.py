"""The memory that the states of a type take, estimated from samples.

A state's objects take several times the bytes of its encoding. How many times depends on the type: a short number takes
three times as much, a long text hardly more. Walking through each state would cost too much, so only some are measured,
and large ones only in part.
"""

from __future__ import annotations

from itertools import islice
from sys import getsizeof
from typing import Any

import msgspec

# One state in so many is measured, and all of the first few.
SAMPLE_EVERY = 64
# The most values of one state that are looked at.
MOST_VALUES = 1000
# What the allocator adds, as a share.
ALLOCATION = 1.1
DECAY = 0.9


class Weight:
    """The memory of a type's states. `factor` is the estimated number of bytes per encoded byte."""

    def __init__(self) -> None:
        self.factor = 2.0
        self._states = 0
        # Of the latest samples, the earlier ones counting less and less.
        self._taken = self._encoded = 0.0

    def sample(self, state: msgspec.Struct) -> None:
        """Take a state into account, if its turn has come."""
        if self._states < 4 or self._states % SAMPLE_EVERY == 0:
            taken, encoded = _measure(state)
            self._taken = DECAY * self._taken + ALLOCATION * taken
            self._encoded = DECAY * self._encoded + encoded
            self.factor = self._taken / self._encoded
        self._states += 1


def _measure(state: msgspec.Struct) -> tuple[float, float]:
    """Return the bytes that a part of the state takes in memory, and roughly those of its encoding."""
    taken, encoded, looked = 0.0, 5.0, 0
    values: list[Any] = [state]
    while values and looked < MOST_VALUES:
        value = values.pop()
        looked += 1
        if isinstance(value, msgspec.Struct):
            names = value.__struct_fields__
            taken += getsizeof(value)
            encoded += sum(len(name) + 2 for name in names)
            values += [getattr(value, name) for name in names]
        elif isinstance(value, dict):
            keys = list(islice(value, MOST_VALUES))
            share = len(keys) / len(value) if value else 1.0
            # Many keys are the same object as in other maps.
            taken += share * getsizeof(value) + sum(map(getsizeof, keys)) / 2
            encoded += 5 + sum(len(str(key)) + 2 for key in keys)
            values += [value[key] for key in keys]
        elif isinstance(value, list | tuple | set | frozenset):
            items = list(islice(value, MOST_VALUES))
            share = len(items) / len(value) if value else 1.0
            taken += share * getsizeof(value)
            encoded += 5 + 5 * len(items)
            values += items
        else:
            taken += getsizeof(value)
            encoded += _encoded_size(value)
    return taken, encoded


def _encoded_size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value) + 5
    return 4 if isinstance(value, int) and abs(value) < 2**31 else 8
