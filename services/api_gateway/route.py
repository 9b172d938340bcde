"""A declared route: a path of HTTP that leads to a method of an object.

Promises: of one method and shape of a path there is one route, since its ID is made of both; none takes
requests that the gateway's own paths are for. Every change is an event, upon which each gateway reads
all routes again.
"""

from __future__ import annotations

from aidevos import BaseDurableObject, Event, Failure, command, permission, query
from aidevos.contracts import routes
from aidevos.contracts.routes import MANAGE_ROUTES, TYPE, RouteBody, RouteInfo
from aidevos.security.audit import record

from .gateway import APIGatewayDO
from .route_table import RouteState, show


class Changed(Event):
    """The route is there, is another, or is gone."""


def check(route: RouteBody) -> None:
    """Raises `invalid` for a path or an ID that nobody could reach, and `conflict` for one of the gateway's own."""
    first, *_ = segments = route.path[1:].split("/")
    names = routes.variables(route.path)
    if {".", ".."} & set(segments):
        raise Failure("invalid", "clients take . and .. out of paths", field="args.route.path")
    if first.startswith("{"):
        raise Failure("invalid", "a path begins with a literal segment", field="args.route.path")
    if len(set(names)) < len(names):
        raise Failure("invalid", "each variable has a name of its own", field="args.route.path")
    if first in routes.RESERVED:
        raise Failure("conflict", f"the paths below /{first} are the gateway's own", field="args.route.path")
    unknown = sorted(set(routes.variables(route.object_id)) - set(names))
    if unknown:
        raise Failure("invalid", f"the path has no variable {unknown[0]}", field="args.route.object_id")


class RouteDO(BaseDurableObject[RouteState], type=TYPE, management="read_only"):
    """A declared route. Its ID is made of its HTTP method and the shape of its path."""

    searches = (APIGatewayDO.route_table,)

    @command(allow=permission(MANAGE_ROUTES))
    async def create(self, route: RouteBody) -> RouteInfo:
        """Declare the route."""
        check(route)
        if self.id != routes.route_id(route.method, route.path):
            raise Failure("invalid", "the ID is not that of this method and path", field="id")
        if self.state.route:
            raise Failure("exists", "there is a route of this method and path", field="args.route.path")
        return self._set(route, "route.created")

    @query(allow=permission(MANAGE_ROUTES))
    async def read(self) -> RouteInfo:
        """The route."""
        return show(self.id, self.state, self.version)

    @command(allow=permission(MANAGE_ROUTES))
    async def replace(self, route: RouteBody) -> RouteInfo:
        """Let the route lead elsewhere; method and path stay, but for the names of variables."""
        show(self.id, self.state, self.version)
        check(route)
        if self.id != routes.route_id(route.method, route.path):
            raise Failure(
                "conflict", "a route keeps its method and path: delete it and declare another", field="args.route.path"
            )
        return self._set(route, "route.replaced")

    @command(allow=permission(MANAGE_ROUTES))
    async def remove(self) -> None:
        """Take the route away."""
        show(self.id, self.state, self.version)
        self.emit(Changed())
        record(self, "route.deleted", target=self.id)
        await self.delete()

    def _set(self, route: RouteBody, action: str) -> RouteInfo:
        self.state = RouteState(route, self.state.created_at or self.now, self.now)
        self.emit(Changed())
        record(self, action, target=self.id)
        return show(self.id, self.state, self.version + 1)
