"""The API's description (OpenAPI 3.1): the generic endpoints, and each announced type with its methods.

A type gets a tag, a schema for its state, for each method's request, arguments and result, and a
path of its own, `/durable-objects/<type>:{id}/request`, which is the generic one spelled out.
Component names: `<type>.state`, `<type>.<method>.args|result|request|response`, and `<type>-<name>`
for what the schemas share; a type's name has neither dot nor hyphen, so they never collide.
"""

from __future__ import annotations

from collections.abc import Sequence

from aidevos.contracts.objects import MethodDescription, TypeDescription
from aidevos.contracts.routes import RouteInfo

from . import openapi_routes
from .catalogue import Method
from .openapi_base import base, request_operation
from .openapi_components import COMPONENTS, component_names, mover
from .openapi_parts import Json

MANAGEMENT = {
    "raw": "Management reads and writes its state.",
    "lifecycle": "Management creates and deletes, and shows no state.",
    "read_only": "Management only reads.",
}


def describe(types: list[TypeDescription], declared: Sequence[RouteInfo] = ()) -> Json:
    """The whole document."""
    document = base()
    schemas = document["components"]["schemas"]
    tags = {tag["name"] for tag in document["tags"]}
    for described in types:
        schemas.update(_schemas(described))
        if described.type not in tags:
            document["tags"].append({"name": described.type, "description": _about(described)})
        document["paths"][f"/durable-objects/{described.type}:{{id}}/request"] = _path(described)
    document["paths"] |= openapi_routes.declared_paths(declared, {described.type: described for described in types})
    if types:
        names = {"type": {"enum": [described.type for described in types]}}
        schemas["CreateBody"]["properties"]["type"] |= names["type"]
    return document


def _about(described: TypeDescription) -> str:
    return f"{described.doc}\n\n{MANAGEMENT[described.management]}".strip()


def _schemas(described: TypeDescription) -> Json:
    type = described.type
    names = component_names(described)
    moved = mover(described)
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
            "required": ["method", "args"] if Method(method, described.defs).required else ["method"],
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


def _reference(name: str) -> Json:
    return {"$ref": COMPONENTS + name}
