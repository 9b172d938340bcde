"""The API's description (OpenAPI 3.1): the generic endpoints, and each announced type with its methods.

A type gets a tag, a schema for its state, for each method's request, arguments and result, and a
path of its own, `/durable-objects/<type>:{id}/request`, which is the generic one spelled out.
Component names: `<type>.state`, `<type>.<method>.args|result|request|response`, and `<type>-<name>`
for what the schemas share; a type's name has neither dot nor hyphen, so they never collide.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.contracts.objects import MethodDescription, TypeDescription
from services.http_gateway.catalogue import Catalogue
from services.http_gateway.openapi_base import base, request_operation
from services.http_gateway.openapi_parts import Json

DEFS = "#/$defs/"
COMPONENTS = "#/components/schemas/"
MANAGEMENT = {
    "raw": "Management reads and writes its state.",
    "lifecycle": "Management creates and deletes, and shows no state.",
    "read_only": "Management only reads.",
}


class Description:
    """The document for what the catalogue knows now, encoded once for each change."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._generation = -1
        self._current = (b"", "")

    def current(self) -> tuple[bytes, str]:
        """The document as JSON, and its entity tag."""
        if self._generation != self._catalogue.generation:
            encoded = msgspec.json.encode(describe(self._catalogue.descriptions))
            self._current = encoded, f'"{hashlib.sha256(encoded).hexdigest()[:32]}"'
            self._generation = self._catalogue.generation
        return self._current


def describe(types: list[TypeDescription]) -> Json:
    """The whole document."""
    document = base()
    schemas = document["components"]["schemas"]
    for described in types:
        schemas.update(_schemas(described))
        document["tags"].append({"name": described.type, "description": _about(described)})
        document["paths"][f"/durable-objects/{described.type}:{{id}}/request"] = _path(described)
    if types:
        names = {"type": {"enum": [described.type for described in types]}}
        schemas["CreateBody"]["properties"]["type"] |= names["type"]
    return document


def _about(described: TypeDescription) -> str:
    return f"{described.doc}\n\n{MANAGEMENT[described.management]}".strip()


def _schemas(described: TypeDescription) -> Json:
    type = described.type
    names = {name: f"{type}-{safe}" for name, safe in _safe_names(described.defs).items()}
    moved = _mover(names)
    schemas: Json = {names[name]: moved(schema) for name, schema in described.defs.items()}
    schemas[f"{type}.state"] = moved(described.state)
    for method in described.methods:
        name = f"{type}.{method.name}"
        schemas[f"{name}.args"] = moved(method.args)
        schemas[f"{name}.result"] = moved(method.result)
        schemas[f"{name}.request"] = {
            "title": method.name,
            "description": _about_method(method),
            "type": "object",
            "properties": {"method": {"const": method.name}, "args": _reference(f"{name}.args")},
            "required": ["method", "args"] if _needs_arguments(method, described.defs) else ["method"],
            "additionalProperties": False,
        }
        schemas[f"{name}.response"] = {
            "title": method.name,
            "type": "object",
            "properties": {"result": _reference(f"{name}.result")},
            "required": ["result"],
            "additionalProperties": False,
        }
    return schemas


def _path(described: TypeDescription) -> Json:
    names = [f"{described.type}.{method.name}" for method in described.methods]
    request: Json = _reference("RequestBody")
    response: Json = _reference("Result")
    if names:
        request = {
            "oneOf": [_reference(f"{name}.request") for name in names],
            "discriminator": {
                "propertyName": "method",
                "mapping": {name.partition(".")[2]: f"{COMPONENTS}{name}.request" for name in names},
            },
        }
        response = {"anyOf": [_reference(f"{name}.response") for name in names]}
    operation = request_operation(
        operation_id=f"request_{described.type}",
        tag=described.type,
        summary=f"Call a method of this type: {described.type}",
        request=request,
        response=response,
    )
    return {"parameters": [{"$ref": "#/components/parameters/id"}], "post": operation}


def _about_method(method: MethodDescription) -> str:
    return f"{method.doc}\n\n{method.kind.capitalize()}; allowed: {method.allow}.".strip()


def _needs_arguments(method: MethodDescription, defs: Json) -> bool:
    arguments = method.args
    while "$ref" in arguments:
        arguments = defs.get(arguments["$ref"].removeprefix(DEFS), {})
    return bool(arguments.get("required"))


def _safe_names(defs: Json) -> dict[str, str]:
    """Names that OpenAPI allows for components, still distinct."""
    safe: dict[str, str] = {}
    for name in sorted(defs):
        candidate = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        while candidate in safe.values():
            candidate += "_"
        safe[name] = candidate
    return safe


def _mover(names: dict[str, str]) -> Callable[[Any], Any]:
    """A copy of a schema with references into `$defs` led to the components of these names."""

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


def _reference(name: str) -> Json:
    return {"$ref": COMPONENTS + name}
