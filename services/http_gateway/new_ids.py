"""IDs that the gateway makes for what a POST creates."""

from __future__ import annotations

import hashlib

from aidevos.contracts import subjects


def new_id(key: str | None, *scope: str) -> str:
    """A new ID; with an idempotency key the one that repeats of the same caller, and of what else is in its
    `scope`, come to, so that a repeat makes no second object."""
    return subjects.new_id() if key is None else derived_id(*scope, key)


def derived_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
