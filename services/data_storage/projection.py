"""A part of a document: what stands at some paths."""

from __future__ import annotations

from typing import Any, TypeAlias

from aidevos.durable.store.condition import Path
from services.data_storage.paths import split, split_list

MAX_FIELDS = 100
# The names that are wanted, each with those below it; with none below, all of it.
Wanted: TypeAlias = dict[str, "Wanted"]


def parse_fields(text: str, field: str) -> list[Path]:
    """The paths in a list with commas; none for no text. Raises `invalid`."""
    return [split(part, field) for part in split_list(text, field, MAX_FIELDS)] if text else []


def project(data: Any, paths: list[Path]) -> Any:
    """The maps of a document with what stands at the paths, in its order."""
    return _project(data, _tree(paths))


def _tree(paths: list[Path]) -> Wanted:
    tree: Wanted = {}
    whole = {path for path in paths if not any(path[:length] in paths for length in range(1, len(path)))}
    for path in whole:
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
    return tree


def _project(data: Any, wanted: Wanted) -> Any:
    if not isinstance(data, dict):
        return {}
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name not in wanted:
            continue
        below = wanted[name]
        if not below:
            found[name] = value
        elif isinstance(value, dict):
            found[name] = _project(value, below)
    return found
