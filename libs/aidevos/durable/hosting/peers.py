"""The number of hosts that share the work, and the limits, of one service.

Promise: while all hosts of a service know each other, their shares of a limit add up to the limit at most. If a fleet
has more hosts than the limit allows uses, each host may use one. A host that joins or leaves is noticed within moments,
and until then the shares may be too large or too small.
"""

from __future__ import annotations


class Peers:
    """The live hosts of this process's service, including this process. `count` is at least 1."""

    def __init__(self, count: int = 1) -> None:
        self.count = count

    @property
    def count(self) -> int:
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        self._count = max(count, 1)

    def share(self, limit: int) -> int:
        """Return how much of a limit for the whole service this host may use now: at least 1.

        The share is rounded down, so that all shares together never exceed the limit unless it is less than `count`.
        """
        return max(limit // self._count, 1)
