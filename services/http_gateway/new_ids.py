"""IDs for the objects that a POST creates."""

from __future__ import annotations

import hashlib

from aidevos.contracts import subjects


def new_id(key: str | None, *scope: str) -> str:
    """Return a new ID.

    With an idempotency `key`, the ID derives from the key and its `scope`, such as the caller. A
    repeated request gets the same ID and so creates no second object.
    """
    return subjects.new_id() if key is None else derive_id(*scope, key)


def derive_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
