"""Patches of documents."""

from __future__ import annotations

from typing import Any

from aidevos.contracts.errors import Failure


def apply(data: Any, patch: Any, kind: str, field: str) -> Any:
    """The data after the patch."""
    if kind == "json":
        raise Failure("invalid", "JSON patches are not taken yet", field=field)
    return merge(data, patch)


def merge(target: Any, patch: Any) -> Any:
    """The target after a merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged
