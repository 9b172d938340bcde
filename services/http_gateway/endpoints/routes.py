"""`/routes`: declaring routes; `declared_routes` serves them."""

from __future__ import annotations

from aidevos.contracts import routes
from aidevos.contracts.routes import RouteBody, RouteInfo, RoutePage

from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, put
from .parameters import PAGE, variable

ROUTES, ROUTE = "/routes", "/routes/{route_id}"
BY_ID = Target(routes.TYPE, in_path("route_id", "route"))
NEW = Target(routes.TYPE, lambda request, body: routes.route_id(body.method, body.path))


class RouteRouter(APIRouter):
    tag = "routes"
    about = "Paths of your own that lead to methods of objects"
    needs = f"Needs `{routes.MANAGE_ROUTES}`."
    body_limit = 16 * 1024
    variables = (variable("route_id", "A route's ID"),)
    rows = (
        get(ROUTES, "list_routes", "List all declared routes, by path", routes.LIST_SUBJECT, RoutePage, query=PAGE),
        create(ROUTES, "create_route", "Declare a route", NEW, RouteInfo, RouteBody, within="route"),
        get(ROUTE, "read_route", "Show a route", BY_ID, RouteInfo),
        put(ROUTE, "replace_route", "Let a route lead elsewhere", BY_ID, RouteInfo, RouteBody, within="route"),
        delete(ROUTE, "delete_route", "Delete a route", (BY_ID, "remove")),
    )
