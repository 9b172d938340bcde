"""The outcome of loading objects or items into a fleet."""

from __future__ import annotations

import msgspec

# Failures that are told one by one.
MAX_SHOWN = 100


class Outcome(msgspec.Struct):
    """Counts of what has become of each. `failures` are lines for people, of the first ones that failed."""

    created: int = 0
    replaced: int = 0
    skipped: int = 0
    failed: int = 0
    failures: list[str] = []

    @property
    def total(self) -> int:
        return self.created + self.replaced + self.skipped + self.failed
