"""The partitions of each type that this process owns.

Promise: a process answers for an object only while it owns the object's partition under a live lease. From the moment
a partition begins to leave, the process finishes what it has taken, and begins nothing of its own there: no alarm, no
tell, no scan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from aidevos.contracts import subjects


class Partitions:
    """The partitions of one process, out of `count` for each type. `is_live` returns True while the lease is live."""

    def __init__(self, count: int, is_live: Callable[[], bool]) -> None:
        self.count = count
        self.is_live = is_live
        self._owned: dict[str, set[int]] = {}
        self._leaving: set[tuple[str, int]] = set()

    def of(self, type: str, id: str) -> int:
        """Return the partition of an object."""
        return subjects.partition(type, id, self.count)

    def of_target(self, target: str) -> int:
        """Return the partition of the object in `<type>.<id>.<method>`."""
        type, _, rest = target.partition(".")
        return self.of(type, rest.partition(".")[0])

    def owns(self, type: str, partition: int) -> bool:
        """Return True if this process may answer now for the objects of a partition."""
        return partition in self._owned.get(type, ()) and self.is_live()

    def serves(self, type: str, partition: int) -> bool:
        """Return True if this process owns a partition that isn't leaving."""
        return self.owns(type, partition) and (type, partition) not in self._leaving

    def served(self, type: str) -> list[int]:
        """Return the sorted partitions of a type that this process owns and that aren't leaving."""
        return sorted(each for each in self._owned.get(type, ()) if (type, each) not in self._leaving)

    def owned(self) -> dict[str, list[int]]:
        """Return the sorted partitions that this process owns, by type."""
        return {type: sorted(owned) for type, owned in self._owned.items() if owned}

    def count_owned(self) -> dict[str, int]:
        """Return how many partitions this process owns, by type."""
        return {type: len(owned) for type, owned in sorted(self._owned.items()) if owned}

    def take(self, type: str, partitions: Iterable[int]) -> None:
        """Own partitions from now on."""
        taken = set(partitions)
        self._owned.setdefault(type, set()).update(taken)
        self._leaving.difference_update((type, partition) for partition in taken)

    def leave(self, type: str, partitions: Collection[int]) -> None:
        """Begin nothing more in these partitions."""
        self._leaving.update((type, partition) for partition in partitions)

    def drop(self, type: str, partition: int) -> None:
        """Own a partition no longer."""
        self._owned.get(type, set()).discard(partition)
        self._leaving.discard((type, partition))
