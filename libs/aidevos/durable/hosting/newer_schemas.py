"""The partitions that hold states whose schemas are newer than this process's code.

They occur while two versions of a service run side by side. A process with the newer code has to own these partitions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class NewerSchemas:
    """Calls `decline` once for each type and partition that it is called with, and says so in the log."""

    def __init__(self, decline: Callable[[str, int], None]) -> None:
        self._decline = decline
        self._declined: set[tuple[str, int]] = set()

    def __call__(self, type: str, partition: int) -> None:
        if (type, partition) not in self._declined:
            self._declined.add((type, partition))
            log.warning(
                "partition %d of %s holds a state whose schema is newer than this process's code: "
                "a process with newer code has to take it",
                partition,
                type,
            )
            self._decline(type, partition)
