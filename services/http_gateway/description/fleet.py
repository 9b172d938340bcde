"""What a fleet adds to the OpenAPI document: a tag, schemas and a path for each announced type, and declared routes.

Component names are `<type>.state`, `<type>.<method>.args|result|request|response`, and `<type>-<name>` for what the
schemas share; a type's name has neither dot nor hyphen, so they never collide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from aidevos.contracts import routes
from aidevos.contracts.objects import MethodDescription, TypeDescription
from aidevos.contracts.routes import RouteInfo

from ..catalogue import DEFS, Method, method_of
from ..endpoints.objects import DurableObjectRouter
from ..endpoints.operation import Operation
from ..http.parameters import Parameter
from .paths import COMPONENTS, Json, Schemas, described, reference

MANAGEMENT = {
    "raw": "Management reads and writes its state.",
    "lifecycle": "Management creates and deletes, and shows no state.",
    "read_only": "Management only reads.",
}
HEADERS = ("Idempotency-Key", "If-Match", "Deadline")
REQUEST = next(row for row in DurableObjectRouter.operations if row.id == "request")


def tags(types: Iterable[TypeDescription]) -> dict[str, str]:
    return {type.type: f"{type.doc}\n\n{MANAGEMENT[type.management]}".strip() for type in types}


def about(method: MethodDescription) -> str:
    return f"{method.doc}\n\n{method.kind.capitalize()}; allowed: {method.allow}.".strip()


def schemas(types: Iterable[TypeDescription]) -> Json:
    found: Json = {}
    for type in types:
        names, moved = definitions(type), mover(type)
        found |= {names[name]: moved(schema) for name, schema in type.defs.items()}
        found[f"{type.type}.state"] = moved(type.state)
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


def _method(type: TypeDescription, method: MethodDescription) -> Json:
    name, moved = f"{type.type}.{method.name}", mover(type)
    closed = {"title": method.name, "type": "object", "additionalProperties": False}
    return {
        f"{name}.args": moved(method.args),
        f"{name}.result": moved(method.result),
        f"{name}.request": closed
        | {
            "description": about(method),
            "properties": {"method": {"const": method.name}, "args": reference(f"{name}.args")},
            "required": ["method", "args"] if Method(method, type.defs).required else ["method"],
        },
        f"{name}.response": closed | {"properties": {"result": reference(f"{name}.result")}, "required": ["result"]},
    }


def _row(type: TypeDescription) -> Any:
    """The row of `…/request` for one type."""
    names = [f"{type.type}.{method.name}" for method in type.methods]
    requests = {
        "oneOf": [reference(f"{name}.request") for name in names],
        "discriminator": {
            "propertyName": "method",
            "mapping": {name.partition(".")[2]: f"{COMPONENTS}{name}.request" for name in names},
        },
    }
    responses = {"anyOf": [reference(f"{name}.response") for name in names]}
    return msgspec.structs.replace(
        REQUEST,
        id=f"request_{type.type}",
        summary=f"Call a method of this type: {type.type}",
        body=requests if names else REQUEST.body,
        answer=responses if names else REQUEST.answer,
    )


def declared_paths(declared: Iterable[RouteInfo], types: Iterable[TypeDescription], schemas: Schemas) -> Json:
    """The paths of all declared routes; the first route of a shape names the variables for all of them."""
    known = {type.type: type for type in types}
    found: Json = {}
    spelled: dict[str, str] = {}
    for route in declared:
        path = spelled.setdefault(routes.shape(route.path), route.path)
        row = _declared_row(route, path, known.get(route.object_type))
        found.setdefault(path, {})[route.method.lower()] = described(row, route.object_type, schemas)
    return found


def _declared_row(route: RouteInfo, path: str, type: TypeDescription | None) -> Operation:
    method = method_of(type, route.object_method)
    target = f"`{route.object_method}` of `{route.object_type}:{route.object_id}`"
    answer = f"{route.object_type}.{route.object_method}.response" if method else "Result"
    arguments: Json = mover(type)(method.properties) if type and method else {}
    variables = _variables(route, path, arguments)
    get = route.method == "GET"
    required = [name for name in (method.required if method else ()) if name in arguments]
    others = [Parameter(name, "", schema, required=name in required) for name, schema in arguments.items()]
    body: Json = {"type": "object"}
    if method is not None:
        body |= {"properties": arguments, "required": required, "additionalProperties": False}
    return Operation(
        method=route.method,
        path=path,
        id=f"route_{route.id}",
        summary=(method.described.doc.partition("\n")[0] if method else "") or f"Call {target}",
        answer=reference(answer),
        status=200,
        returns="The method's result",
        needs=f"Calls {target}. Needs `{route.permission}`, and what the method itself asks for.",
        body=None if get else body,
        optional=not required,
        query=(*variables, *others) if get else variables,
        headers=("Deadline",) if get else HEADERS,
        failures=(409, 412),
    )


def _variables(route: RouteInfo, path: str, arguments: Json) -> tuple[Parameter, ...]:
    """The path's variables; those that are arguments are taken out of `arguments`."""
    text = {"type": "string", "minLength": 1}
    in_id = routes.variables(route.object_id)
    return tuple(
        Parameter(name, "", text if own in in_id else arguments.pop(own, text), "path")
        for name, own in zip(routes.variables(path), routes.variables(route.path), strict=True)
    )
