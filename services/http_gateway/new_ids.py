"""IDs that the gateway makes for what a POST creates."""

from __future__ import annotations

import hashlib

from aidevos.contracts import subjects


def new_id(type: str, subject: str, key: str | None) -> str:
    """A new ID; with an idempotency key the one that this caller's repeats come to, and nobody else's, so
    that a repeat makes no second object."""
    if key is None:
        return subjects.new_id()
    return hashlib.sha256(f"{type}\0{subject}\0{key}".encode()).hexdigest()[:32]
