"""A type's own schemas as components of a description: `<type>-<name>`, and what refers to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from aidevos.contracts.objects import TypeDescription

from .catalogue import DEFS

COMPONENTS = "#/components/schemas/"


def component_names(described: TypeDescription) -> dict[str, str]:
    """Name in the type's `defs` → name of the component, one that OpenAPI allows; still distinct."""
    safe: dict[str, str] = {}
    for name in sorted(described.defs):
        candidate = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        while candidate in safe.values():
            candidate += "_"
        safe[name] = candidate
    return {name: f"{described.type}-{candidate}" for name, candidate in safe.items()}


def mover(described: TypeDescription) -> Callable[[Any], Any]:
    """Copies a schema of the type with its references led to the components."""
    names = component_names(described)

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [moved(item) for item in value]
        if isinstance(value, str) and value.startswith(DEFS):
            name = value.removeprefix(DEFS)
            return COMPONENTS + names.get(name, name)
        return value

    return moved
