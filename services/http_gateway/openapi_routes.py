"""The part of the API's description that is about declared routes: how to declare one, and each that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aidevos.contracts import routes
from aidevos.contracts.objects import TypeDescription
from aidevos.contracts.routes import RouteInfo

from .catalogue import method_of
from .openapi_components import mover
from .openapi_parts import (
    CHANGE,
    CHANGING,
    ETAG,
    LOCATION,
    UNCHANGED,
    Json,
    Section,
    body,
    content,
    given,
    operation,
    parameter,
    reference,
    schemas_of,
    sent,
)

TAG: Json = {"name": "routes", "description": "Paths of one's own, which lead to methods of objects"}
ROUTES = Section("routes", "Needs `routes:manage`.")
SHOWN = content("The route", reference("RouteInfo"), ETAG)


def schemas() -> Json:
    return schemas_of(routes.RouteBody, routes.RouteInfo, routes.RoutePage)


def parameters() -> Json:
    return {"route_id": parameter("route_id", "path", None, "A route's ID")}


def paths() -> Json:
    made = content("The route", reference("RouteInfo"), ETAG | LOCATION)
    page = {"200": content("One page", reference("RoutePage"))}
    return {
        "/routes": {
            "get": ROUTES.reading("list_routes", "All declared routes, by path", page, ("limit", "cursor", "Deadline")),
            "post": ROUTES.changing("create_route", "Declare a route", {"201": made}, reference("RouteBody")),
        },
        "/routes/{route_id}": {
            **given("route_id"),
            "get": ROUTES.reading("read_route", "Show a route", {"200": SHOWN} | UNCHANGED),
            "put": ROUTES.changing(
                "replace_route", "Let a route lead elsewhere", {"200": SHOWN}, reference("RouteBody")
            ),
            "delete": ROUTES.changing(
                "delete_route", "Take a route away", {"204": {"description": "The route is gone"}}
            ),
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
        parameters=("Deadline",) if route.method == "GET" else CHANGING,
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
        described_operation |= sent(schema, required=bool(needed))
    return described_operation
