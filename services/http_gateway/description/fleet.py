"""The parts of the OpenAPI document that depend on the fleet: announced types and declared routes.

Each type gets a tag, schemas and a path. Component names are `<type>.state`,
`<type>.<method>.args|result|request|response`, and `<type>-<name>` for shared schemas. A type's name
has neither dot nor hyphen, so they never collide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from aidevos.contracts import routes, subjects
from aidevos.contracts.objects import MethodDescription, TypeDescription
from aidevos.contracts.routes import RouteInfo
from aidevos.security.permissions import services

from ..catalogue import DEFS, Method, find_method, queries_of
from ..declared_routes import is_open
from ..endpoints.objects import DurableObjectRouter
from ..endpoints.operation import Access, Operation
from ..endpoints.routers import ROUTERS
from ..http.parameters import Parameter
from .paths import COMPONENTS, Json, Schemas, describe_operation, reference

MANAGEMENT = {
    "raw": "Management calls read and write its state.",
    "lifecycle": "Management calls create and delete it, and never show its state.",
    "read_only": "Management calls can only read it.",
}
HEADERS = ("Idempotency-Key", "If-Match", "Deadline")
REQUEST, SEARCH = (
    next(row for row in DurableObjectRouter.operations if row.id == id) for id in ("request", "search_objects")
)
# The searches and views that rows of the gateway ask.
WITH_PATHS = {row.calls for router in ROUTERS for row in router.operations if isinstance(row.calls, str)}


def tags(types: Iterable[TypeDescription]) -> dict[str, str]:
    """Return the description of each type's tag, by the type's name."""
    return {type.type: f"{type.doc}\n\n{MANAGEMENT[type.management]}".strip() for type in types}


def describe_method(method: MethodDescription) -> str:
    """Return a method's docstring, its kind and its rule as Markdown."""
    return f"{method.doc}\n\n{method.kind.capitalize()}; allowed: {method.allow}.".strip()


def schemas(types: Iterable[TypeDescription]) -> Json:
    """Return the schemas of all types, by component name."""
    found: Json = {}
    for type in types:
        names, copy = component_names(type), schema_copier(type)
        found |= {names[name]: copy(schema) for name, schema in type.defs.items()}
        found[f"{type.type}.state"] = copy(type.state)
        for method in type.methods:
            found |= _method(type, method)
    return found


def paths(types: Iterable[TypeDescription], schemas: Schemas) -> Json:
    """Return the path of each type, which calls its methods."""
    id = {"parameters": [{"$ref": "#/components/parameters/id"}]}
    found: Json = {}
    for type in types:
        request = {"post": describe_operation(_request_row(type), type.type, schemas)}
        found[f"/durable-objects/{type.type}:{{id}}/request"] = id | request
        for row in _search_rows(type):
            found[row.path] = {"get": describe_operation(row, type.type, schemas)}
    return found


def component_names(type: TypeDescription) -> dict[str, str]:
    """Return a map from the names in a type's `defs` to distinct component names that OpenAPI allows."""
    safe: dict[str, str] = {}
    for name in sorted(type.defs):
        candidate = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        while candidate in safe.values():
            candidate += "_"
        safe[name] = candidate
    return {name: f"{type.type}-{candidate}" for name, candidate in safe.items()}


def schema_copier(type: TypeDescription) -> Callable[[Any], Any]:
    """Return a function that copies a schema of the type and points its references to components."""
    names = component_names(type)

    def copy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: copy(item) for key, item in value.items()}
        if isinstance(value, list):
            return [copy(item) for item in value]
        if isinstance(value, str) and value.startswith(DEFS):
            name = value.removeprefix(DEFS)
            return COMPONENTS + names.get(name, name)
        return value

    return copy


def _method(type: TypeDescription, method: MethodDescription) -> Json:
    name, copy = f"{type.type}.{method.name}", schema_copier(type)
    closed = {"title": method.name, "type": "object", "additionalProperties": False}
    return {
        f"{name}.args": copy(method.args),
        f"{name}.result": copy(method.result),
        f"{name}.request": closed
        | {
            "description": describe_method(method),
            "properties": {"method": {"const": method.name}, "args": reference(f"{name}.args")},
            "required": ["method", "args"] if Method(method, type.defs).required else ["method"],
        },
        f"{name}.response": closed | {"properties": {"result": reference(f"{name}.result")}, "required": ["result"]},
    }


def _request_row(type: TypeDescription) -> Any:
    """Return the row of `…/request` for one type."""
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
        access=Access.REQUIRED if all(method.needs_credential for method in type.methods) else Access.OPTIONAL,
        id=f"request_{type.type}",
        summary=f"Call a method of this type: {type.type}",
        body=requests if names else REQUEST.body,
        response=responses if names else REQUEST.response,
    )


def _search_rows(type: TypeDescription) -> Iterator[Operation]:
    """Yield the rows of a type's searches and views that people may ask and that have no path of their own."""
    copy = schema_copier(type)
    for query in queries_of(type):
        each = query.description
        if each.allow == str(services()) or subjects.query(type.type, each.name) in WITH_PATHS:
            continue
        parameters = (
            Parameter(name, "", copy(schema), required=name in query.required, is_json=query.takes_json(name))
            for name, schema in query.properties.items()
        )
        yield msgspec.structs.replace(
            SEARCH,
            path=f"/durable-objects/{type.type}/searches/{each.name}",
            id=f"search_{type.type}_{each.name}",
            summary=f"Ask {each.name} of this type: {type.type}",
            about="",
            access=Access.REQUIRED if each.needs_credential else Access.OPTIONAL,
            needs=f"{SEARCH.needs} This one allows: {each.allow}.",
            query=tuple(parameters),
            response=copy(each.result),
        )


def declared_paths(declared: Iterable[RouteInfo], types: Iterable[TypeDescription], schemas: Schemas) -> Json:
    """Return the paths of all declared routes; the first route of a shape names the variables for all of them."""
    known = {type.type: type for type in types}
    found: Json = {}
    spelled: dict[str, str] = {}
    for route in declared:
        path = spelled.setdefault(routes.shape(route.path), route.path)
        row = _declared_row(route, path, known.get(route.object_type))
        found.setdefault(path, {})[route.method.lower()] = describe_operation(row, route.object_type, schemas)
    return found


def _declared_row(route: RouteInfo, path: str, type: TypeDescription | None) -> Operation:
    method = find_method(type, route.object_method)
    target = f"`{route.object_method}` of `{route.object_type}:{route.object_id}`"
    response = f"{route.object_type}.{route.object_method}.response" if method else "Result"
    arguments: Json = schema_copier(type)(method.properties) if type and method else {}
    variables = _variables(route, path, arguments)
    get = route.method == "GET"
    required = [name for name in (method.required if method else ()) if name in arguments]
    encoded = {name for name in arguments if method is not None and method.takes_json(name)}
    others = [
        Parameter(name, "", schema, required=name in required, is_json=name in encoded)
        for name, schema in arguments.items()
    ]
    own = f"`{route.permission}`, and " if route.permission is not None else ""
    body: Json = {"type": "object"}
    if method is not None:
        body |= {"properties": arguments, "required": required, "additionalProperties": False}
    return Operation(
        method=route.method,
        path=path,
        id=f"route_{route.id}",
        summary=(method.description.doc.partition("\n")[0] if method else "") or f"Call {target}",
        response=reference(response),
        status=200,
        returns="The method's result",
        access=Access.OPTIONAL if is_open(route, method) else Access.REQUIRED,
        needs=f"Calls {target}. Requires {own}whatever the method itself requires.",
        body=None if get else body,
        optional=not required,
        query=(*variables, *others) if get else variables,
        headers=("Deadline",) if get else HEADERS,
        failures=(409, 412),
    )


def _variables(route: RouteInfo, path: str, arguments: Json) -> tuple[Parameter, ...]:
    """Return the path's variables; those that are arguments are removed from `arguments`."""
    text = {"type": "string", "minLength": 1}
    in_id = routes.variables(route.object_id)
    return tuple(
        Parameter(name, "", text if own in in_id else arguments.pop(own, text), "path")
        for name, own in zip(routes.variables(path), routes.variables(route.path), strict=True)
    )
