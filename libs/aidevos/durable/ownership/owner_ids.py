"""Owner IDs: the fencing tokens of activations."""

from __future__ import annotations


class OwnerIds:
    """Issues owner IDs that are never reused. `incarnation` identifies one run of one process."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._issued = 0

    def next(self) -> str:
        """Return the next ID."""
        self._issued += 1
        return f"{self._incarnation}.{self._issued}"
