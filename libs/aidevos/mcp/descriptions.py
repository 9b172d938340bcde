"""The types of objects in an OpenAPI document of the gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
COMPONENTS, DEFS = "#/components/schemas/", "#/$defs/"
_call_path = re.compile(r"/durable-objects/([a-z0-9_]+):\{id\}/request").fullmatch


def summarize(document: Json) -> list[Json]:
    """Return the name, description and methods of each type."""
    return [
        {"type": type, "about": about, "methods": [name for name, _ in _methods(document, type)]}
        for type, about in _types(document).items()
    ]


def describe(document: Json, type: str) -> Json | None:
    """Return the state and the methods of a type, or None if it isn't in the document.

    Schemas refer to `$defs`.
    """
    about = _types(document).get(type)
    if about is None:
        return None
    schemas = document["components"]["schemas"]
    methods = {
        name: {
            "about": request["description"],
            "arguments": schemas[f"{type}.{name}.args"],
            "result": schemas[f"{type}.{name}.result"],
        }
        for name, request in _methods(document, type)
    }
    found: Json = {"type": type, "about": about, "state": schemas[f"{type}.state"], "methods": methods}
    return {**_local(found), "$defs": {name: _local(schemas[name]) for name in _collect(found, schemas)}}


def _types(document: Json) -> dict[str, str]:
    """Return the description of each type by name."""
    abouts = {tag["name"]: tag["description"] for tag in document["tags"]}
    return {found[1]: abouts[found[1]] for path in document["paths"] if (found := _call_path(path))}


def _methods(document: Json, type: str) -> Iterator[tuple[str, Json]]:
    """Yield each method of a type with the schema of its request."""
    for name, schema in document["components"]["schemas"].items():
        owner, _, rest = name.partition(".")
        if owner == type and rest.endswith(".request"):
            yield rest.removesuffix(".request"), schema


def _collect(value: Any, schemas: Json) -> list[str]:
    """Return the names of all schemas that a value refers to, also through others."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        for name in _references(waiting.pop()):
            if name not in found:
                found.append(name)
                waiting.append(schemas[name])
    return sorted(found)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, str) and value.startswith(COMPONENTS):
        yield value.removeprefix(COMPONENTS)


def _local(value: Any) -> Any:
    """Return a copy whose references lead to `$defs`."""
    if isinstance(value, dict):
        return {name: _local(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_local(each) for each in value]
    return value.replace(COMPONENTS, DEFS, 1) if isinstance(value, str) and value.startswith(COMPONENTS) else value
