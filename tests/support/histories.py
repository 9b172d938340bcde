"""Checks of what clients have seen of a register while hosts came and went.

A register keeps the trail of all its values, each written once. An operation has a position in the trail: that of the
value that it has written or seen. The history is linearizable if positions never go back from an operation to one that
began after its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Operation(NamedTuple):
    """A finished operation: it saw `seen`, and wrote `written` in its place if that isn't None."""

    begun: float
    ended: float
    seen: int
    written: int | None = None


def find_faults(trail: Sequence[int], operations: Iterable[Operation], sent: Iterable[int]) -> list[str]:
    """Return what is wrong with a history. `sent` are all values that anyone has tried to write."""
    done, trail = list(operations), list(trail)
    positions = {value: position for position, value in enumerate(trail)}
    faults = [f"{value} was written by nobody" for value in set(trail[1:]) - set(sent)]
    if len(positions) < len(trail):
        faults.append("a value was written twice")
    faults += [f"{each} has left no trace" for each in done if not _is_in(trail, positions, each)]
    return faults or list(_find_stale(positions, done))


def _is_in(trail: Sequence[int], positions: dict[int, int], operation: Operation) -> bool:
    position = positions.get(operation.seen)
    if position is None:
        return False
    return operation.written is None or trail[position + 1 : position + 2] == [operation.written]


def _find_stale(positions: dict[int, int], operations: Sequence[Operation]) -> Iterator[str]:
    """Return the operations that saw less than another one had seen before they began."""
    latest = -1
    ended = sorted(operations, key=lambda each: each.ended, reverse=True)
    for operation in sorted(operations, key=lambda each: each.begun):
        while ended[-1].ended < operation.begun:
            before = ended.pop()
            latest = max(latest, positions[before.seen if before.written is None else before.written])
        if positions[operation.seen] < latest:
            yield f"{operation} began after position {latest} was seen"
