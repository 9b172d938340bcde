"""A declared route: an HTTP path that calls a method of an object.

Promises: there is one route per method and path shape, since its ID derives from both. No route takes
requests for the gateway's own paths. Every change emits an event, after which each gateway reads all
routes again.
"""

from __future__ import annotations

from aidevos import BaseDurableObject, Event, Failure, command, permission, query
from aidevos.contracts import routes
from aidevos.contracts.routes import MANAGE_ROUTES, TYPE, RouteBody, RouteInfo
from aidevos.security.audit import record

from .gateway import APIGatewayDO
from .route_table import RouteState, show


class Changed(Event):
    """The route was created, replaced or deleted."""


def check(route: RouteBody) -> None:
    """Raise `invalid` for an unreachable path or ID, and `conflict` for one of the gateway's own paths."""
    first, *_ = segments = route.path[1:].split("/")
    names = routes.variables(route.path)
    if {".", ".."} & set(segments):
        raise Failure("invalid", "a path can't contain . or .., because clients remove them", field="args.route.path")
    if first.startswith("{"):
        raise Failure("invalid", "a path must begin with a literal segment", field="args.route.path")
    if len(set(names)) < len(names):
        raise Failure("invalid", "each variable must have a different name", field="args.route.path")
    if first in routes.RESERVED:
        raise Failure("conflict", f"the paths below /{first} belong to the gateway", field="args.route.path")
    unknown = sorted(set(routes.variables(route.object_id)) - set(names))
    if unknown:
        raise Failure("invalid", f"the path has no variable {unknown[0]}", field="args.route.object_id")


class RouteDO(BaseDurableObject[RouteState], type=TYPE, management="read_only"):
    """A declared route. Its ID derives from its HTTP method and the shape of its path."""

    searches = (APIGatewayDO.route_table,)

    @command(allow=permission(MANAGE_ROUTES))
    async def create(self, route: RouteBody) -> RouteInfo:
        """Declare the route."""
        check(route)
        if self.id != routes.route_id(route.method, route.path):
            raise Failure("invalid", "the ID doesn't belong to this method and path", field="id")
        if self.state.route:
            raise Failure("exists", "a route with this method and path exists already", field="args.route.path")
        return self._set(route, "route.created")

    @query(allow=permission(MANAGE_ROUTES))
    async def read(self) -> RouteInfo:
        """Return the route."""
        return show(self.id, self.state, self.version)

    @command(allow=permission(MANAGE_ROUTES))
    async def replace(self, route: RouteBody) -> RouteInfo:
        """Replace the route; only its method and path must stay, though variables may change their names."""
        show(self.id, self.state, self.version)
        check(route)
        if self.id != routes.route_id(route.method, route.path):
            raise Failure(
                "conflict",
                "a route can't change its method or path: delete it and declare another",
                field="args.route.path",
            )
        return self._set(route, "route.replaced")

    @command(allow=permission(MANAGE_ROUTES))
    async def remove(self) -> None:
        """Delete the route."""
        show(self.id, self.state, self.version)
        self.emit(Changed())
        record(self, "route.deleted", target=self.id)
        await self.delete()

    def _set(self, route: RouteBody, action: str) -> RouteInfo:
        self.state = RouteState(route, self.state.created_at or self.now, self.now)
        self.emit(Changed())
        record(self, action, target=self.id)
        return show(self.id, self.state, self.version + 1)
