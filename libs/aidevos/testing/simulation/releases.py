"""The partitions that each incarnation of a host has released itself, as the bucket of partitions shows it."""

from __future__ import annotations

from collections import defaultdict

from aidevos.contracts import subjects
from aidevos.testing.simulation.streams import Stored


class Releases:
    """Follows the bucket of a fleet with so many partitions."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._owners: dict[str, str] = {}
        self._released: defaultdict[str, set[str]] = defaultdict(set)

    def note(self, entry: Stored) -> None:
        """Take note of a new entry of the bucket. Only its owner deletes the key of a partition."""
        place = ".".join(entry.subject.rsplit(".", 2)[1:])
        if entry.data:
            self._owners[place] = entry.data.decode()
            self._released[place].discard(self._owners[place])
        elif place in self._owners:
            self._released[place].add(self._owners.pop(place))

    def has(self, incarnation: str, type: str, id: str) -> bool:
        """Return True if an incarnation has released the partition of an object, and not claimed it since."""
        return incarnation in self._released[f"{type}.{subjects.partition(type, id, self._partitions)}"]
