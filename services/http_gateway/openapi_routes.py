"""The part of the API's description that is about declared routes: how to declare one, and each that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from aidevos.contracts import routes
from aidevos.contracts.envelope import JSON
from aidevos.contracts.objects import TypeDescription
from aidevos.contracts.routes import RouteInfo
from services.http_gateway.catalogue import method_of
from services.http_gateway.openapi_components import mover
from services.http_gateway.openapi_parts import (
    CHANGE,
    COMMON,
    ETAG,
    Json,
    body,
    content,
    operation,
    parameter,
    reference,
)

TAG: Json = {"name": "routes", "description": "Paths of one's own, which lead to methods of objects"}
NEEDED = "Needs `routes:manage`."
SHOWN = content("The route", reference("RouteInfo"), ETAG)


def schemas() -> Json:
    types = (routes.RouteBody, routes.RouteInfo, routes.RoutePage)
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return found


def parameters() -> Json:
    return {"route_id": parameter("route_id", "path", None, "A route's ID")}


def paths() -> Json:
    made = content("The route", reference("RouteInfo"), ETAG | {"Location": {"schema": {"type": "string"}}})
    unchanged = {"304": {"description": "Not modified", "headers": ETAG}}
    return {
        "/routes": {
            "get": operation(
                "list_routes",
                "routes",
                "All declared routes, by path",
                {"200": content("One page", reference("RoutePage"))},
                COMMON,
                parameters=("limit", "cursor", "Deadline"),
                description=NEEDED,
            ),
            "post": _changing("create_route", "Declare a route", {"201": made}, reference("RouteBody")),
        },
        "/routes/{route_id}": {
            "parameters": [{"$ref": "#/components/parameters/route_id"}],
            "get": operation(
                "read_route",
                "routes",
                "Show a route",
                {"200": SHOWN} | unchanged,
                COMMON,
                parameters=("If-None-Match", "Deadline"),
                description=NEEDED,
            ),
            "put": _changing("replace_route", "Let a route lead elsewhere", {"200": SHOWN}, reference("RouteBody")),
            "delete": _changing("delete_route", "Take a route away", {"204": {"description": "The route is gone"}}),
        },
    }


def declared_paths(declared: Iterable[RouteInfo], types: Mapping[str, TypeDescription]) -> Json:
    """The paths of all declared routes; variables of one shape have the names that its first route gives them."""
    found: Json = {}
    spelled: dict[str, str] = {}
    for route in declared:
        path = spelled.setdefault(routes.shape(route.path), route.path)
        described = types.get(route.object_type)
        found.setdefault(path, {})[route.method.lower()] = _declared(route, routes.variables(path), described)
    return found


def _declared(route: RouteInfo, names: list[str], described: TypeDescription | None) -> Json:
    method = method_of(described, route.object_method)
    target = f"`{route.object_method}` of `{route.object_type}:{route.object_id}`"
    named = f"{route.object_type}.{route.object_method}"
    described_operation = operation(
        f"route_{route.id}",
        route.object_type,
        (method.described.doc.partition("\n")[0] if method else "") or f"Call {target}",
        {"200": content("The method's result", reference(f"{named}.response" if method else "Result"))},
        CHANGE,
        parameters=("Deadline",) if route.method == "GET" else ("Idempotency-Key", "If-Match", "Deadline"),
        description=f"Calls {target}. Needs `{route.permission}`, and what the method itself asks for.",
    )
    properties: Json = mover(described)(method.properties) if described and method else {}
    required = method.required if method else []
    text = {"type": "string", "minLength": 1}
    for name, own in zip(names, routes.variables(route.path), strict=True):
        schema = properties.pop(own, text) if own not in routes.variables(route.object_id) else text
        described_operation["parameters"].append({"name": name, "in": "path", "required": True, "schema": schema})
    if route.method == "GET":
        described_operation["parameters"] += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in properties.items()
        ]
    else:
        needed = [name for name in required if name in properties]
        schema = body(properties, *needed) if method else {"type": "object"}
        described_operation["requestBody"] = {"required": bool(needed), "content": {JSON: {"schema": schema}}}
    return described_operation


def _changing(operation_id: str, summary: str, responses: Json, body: Json | None = None) -> Json:
    given = ("Idempotency-Key", "If-Match", "Deadline")
    return operation(
        operation_id, "routes", summary, responses, CHANGE, parameters=given, body=body, description=NEEDED
    )
