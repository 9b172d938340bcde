"""Keys of indexes."""

from __future__ import annotations

from typing import Any

from services.data_storage.terms import Index


def index_keys(indexes: dict[str, Index], data: Any) -> dict[str, str]:
    """The keys of a document in these indexes, by slot."""
    return {}
