"""Announced types in the OpenAPI document: a tag, schemas and a path each.

Component names are `<type>.state`, `<type>.<method>.args|result|request|response`, and `<type>-<name>` for what the
schemas share; a type's name has neither dot nor hyphen, so they never collide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from aidevos.contracts.objects import MethodDescription, TypeDescription

from ..catalogue import DEFS, Method
from ..endpoints.objects import DurableObjectRouter
from .paths import COMPONENTS, Json, Schemas, described

MANAGEMENT = {
    "raw": "Management reads and writes its state.",
    "lifecycle": "Management creates and deletes, and shows no state.",
    "read_only": "Management only reads.",
}
REQUEST = next(row for row in DurableObjectRouter.operations if row.id == "request")


def tags(types: Iterable[TypeDescription]) -> dict[str, str]:
    return {type.type: f"{type.doc}\n\n{MANAGEMENT[type.management]}".strip() for type in types}


def schemas(types: Iterable[TypeDescription]) -> Json:
    found: Json = {}
    for type in types:
        found |= _definitions(type) | {f"{type.type}.state": mover(type)(type.state)}
        for method in type.methods:
            found |= _method(type, method)
    return found


def paths(types: Iterable[TypeDescription], schemas: Schemas) -> Json:
    id = {"parameters": [{"$ref": "#/components/parameters/id"}]}
    return {
        f"/durable-objects/{type.type}:{{id}}/request": id | {"post": described(_row(type), type.type, schemas)}
        for type in types
    }


def definitions(type: TypeDescription) -> dict[str, str]:
    """Map the names in a type's `defs` to names of components that OpenAPI allows; they stay distinct."""
    safe: dict[str, str] = {}
    for name in sorted(type.defs):
        candidate = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        while candidate in safe.values():
            candidate += "_"
        safe[name] = candidate
    return {name: f"{type.type}-{candidate}" for name, candidate in safe.items()}


def mover(type: TypeDescription) -> Callable[[Any], Any]:
    """Return a function that copies a schema of the type and leads its references to components."""
    names = definitions(type)

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


def _definitions(type: TypeDescription) -> Json:
    names, moved = definitions(type), mover(type)
    return {names[name]: moved(schema) for name, schema in type.defs.items()}


def _method(type: TypeDescription, method: MethodDescription) -> Json:
    name, moved = f"{type.type}.{method.name}", mover(type)
    closed = {"title": method.name, "type": "object", "additionalProperties": False}
    return {
        f"{name}.args": moved(method.args),
        f"{name}.result": moved(method.result),
        f"{name}.request": closed
        | {
            "description": f"{method.doc}\n\n{method.kind.capitalize()}; allowed: {method.allow}.".strip(),
            "properties": {"method": {"const": method.name}, "args": _reference(f"{name}.args")},
            "required": ["method", "args"] if Method(method, type.defs).required else ["method"],
        },
        f"{name}.response": closed | {"properties": {"result": _reference(f"{name}.result")}, "required": ["result"]},
    }


def _row(type: TypeDescription) -> Any:
    """The row of `…/request` for one type."""
    names = [f"{type.type}.{method.name}" for method in type.methods]
    requests = {
        "oneOf": [_reference(f"{name}.request") for name in names],
        "discriminator": {
            "propertyName": "method",
            "mapping": {name.partition(".")[2]: f"{COMPONENTS}{name}.request" for name in names},
        },
    }
    responses = {"anyOf": [_reference(f"{name}.response") for name in names]}
    return msgspec.structs.replace(
        REQUEST,
        id=f"request_{type.type}",
        summary=f"Call a method of this type: {type.type}",
        body=requests if names else REQUEST.body,
        answer=responses if names else REQUEST.answer,
    )


def _reference(name: str) -> Json:
    return {"$ref": COMPONENTS + name}
