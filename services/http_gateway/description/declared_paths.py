"""The paths of declared routes in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable

from aidevos.contracts import routes
from aidevos.contracts.objects import TypeDescription
from aidevos.contracts.routes import RouteInfo

from ..catalogue import Method, method_of
from ..endpoints.operation import Operation
from ..endpoints.parameters import Parameter
from .paths import COMPONENTS, Json, Schemas, described
from .types import mover

HEADERS = ("Idempotency-Key", "If-Match", "Deadline")


def paths(declared: Iterable[RouteInfo], types: Iterable[TypeDescription], schemas: Schemas) -> Json:
    """The paths of all declared routes; the first route of a shape names the variables for all of them."""
    known = {type.type: type for type in types}
    found: Json = {}
    spelled: dict[str, str] = {}
    for route in declared:
        path = spelled.setdefault(routes.shape(route.path), route.path)
        row = _row(route, path, known.get(route.object_type))
        found.setdefault(path, {})[route.method.lower()] = described(row, route.object_type, schemas)
    return found


def _row(route: RouteInfo, path: str, type: TypeDescription | None) -> Operation:
    method = method_of(type, route.object_method)
    target = f"`{route.object_method}` of `{route.object_type}:{route.object_id}`"
    answer = f"{route.object_type}.{route.object_method}.response" if method else "Result"
    arguments: Json = mover(type)(method.properties) if type and method else {}
    variables = _variables(route, path, arguments)
    get = route.method == "GET"
    required = [name for name in (method.required if method else ()) if name in arguments]
    return Operation(
        method=route.method,
        path=path,
        id=f"route_{route.id}",
        summary=(method.described.doc.partition("\n")[0] if method else "") or f"Call {target}",
        answer={"$ref": COMPONENTS + answer},
        status=200,
        returns="The method's result",
        needs=f"Calls {target}. Needs `{route.permission}`, and what the method itself asks for.",
        body=None if get else _body(method, arguments, required),
        optional=not required,
        query=(*variables, *_query(arguments, required)) if get else variables,
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


def _query(arguments: Json, required: list[str]) -> Iterable[Parameter]:
    return (Parameter(name, "", schema, required=name in required) for name, schema in arguments.items())


def _body(method: Method | None, arguments: Json, required: list[str]) -> Json:
    if method is None:
        return {"type": "object"}
    return {"type": "object", "properties": arguments, "required": required, "additionalProperties": False}
