"""The routes that administrators declare, served after the gateway's own paths, which they can't override.

If several paths match a request, a literal segment wins over a variable, from left to right. The
gateway requires the route's permission, if it has one, for every response, cached ones included. For
responses that aren't cached, the object's host also applies the method's own rule. GET calls queries
only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aidevos.contracts import routes, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.routes import RouteInfo
from aidevos.durable.access.limiter import ROUTE, RateLimiter
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.settings import Settings

from .catalogue import Method, TypeCatalogue
from .forwarder import Forwarder
from .http import bodies
from .http.dispatch import MethodDispatcher
from .http.guard import Guard
from .http.paths import Paths
from .http.request import HttpRequest
from .http.responses import HttpResponse, MethodNotAllowed
from .response_cache import ResponseCache, identity

# Routes beyond this number, in path order, aren't served.
MAX_ROUTES = 1000
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class RouteTable:
    """The routes declared at present; `generation` grows with every change.

    `is_known` is True once they have been read; if no service declares routes (`is_awaited` is False),
    from the start.
    """

    def __init__(self, *, is_awaited: bool) -> None:
        self.is_known = not is_awaited
        self.generation = 0
        self.routes: list[RouteInfo] = []

    def set(self, found: list[RouteInfo]) -> None:
        self.is_known = True
        if found != self.routes:
            self.routes = found
            self.generation += 1


class DeclaredRoutes:
    """An ASGI application for all paths other than the gateway's own."""

    def __init__(
        self,
        table: RouteTable,
        catalogue: TypeCatalogue,
        forwarder: Forwarder,
        guard: Guard,
        open_guard: Guard,
        limiter: RateLimiter,
        settings: Settings,
    ) -> None:
        self._table = table
        self._catalogue = catalogue
        self._forwarder = forwarder
        self._guard = guard
        self._open_guard = open_guard
        self._limiter = limiter
        self._max_body = settings.max_body
        self._cache = ResponseCache()
        self._built = (-1, -1)
        self._paths: ASGIApp = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        latest = (self._table.generation, self._catalogue.generation)
        if self._built != latest:
            self._build()
            self._built = latest
        first = scope["path"].split("/", 2)[1]
        if not self._table.is_known and first not in routes.RESERVED:
            raise Failure("unavailable", "the declared routes haven't been read yet")
        await self._paths(scope, receive, send)

    def _build(self) -> None:
        found: dict[str, list[RouteInfo]] = {}
        for route in self._table.routes:
            found.setdefault(routes.shape(route.path), []).append(route)
        self._paths = Paths((self._route(same) for same in found.values()), not_found)

    def _route(self, same: list[RouteInfo]) -> Route:
        """Return the route of all declared routes with one path shape."""
        return Route(same[0].path, _ShapeDispatcher({route.method: self._dispatcher(route) for route in same}))

    def _dispatcher(self, route: RouteInfo) -> MethodDispatcher:
        method = self._catalogue.find_method(route.object_type, route.object_method)
        handler = _Handler(route, method, self._catalogue, self._forwarder, self._limiter, self._cache, self._max_body)
        guard = self._open_guard if is_open(route, method) else self._guard
        return MethodDispatcher({route.method: (guard, handler)}, handler.parameters)


class _ShapeDispatcher:
    """The methods of all routes with the same path shape."""

    def __init__(self, dispatchers: dict[str, MethodDispatcher]) -> None:
        self._dispatchers = dispatchers
        self._allowed = ", ".join(sorted({*dispatchers, *(("HEAD",) if "GET" in dispatchers else ())}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._dispatchers.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if found is None:
            raise MethodNotAllowed(scope["method"], self._allowed)
        await found(scope, receive, send)


class _Handler:
    """The handler of one declared route; `method` is None as long as no host has announced it."""

    def __init__(
        self,
        route: RouteInfo,
        method: Method | None,
        catalogue: TypeCatalogue,
        forwarder: Forwarder,
        limiter: RateLimiter,
        cache: ResponseCache,
        max_body: int,
    ) -> None:
        self._route = route
        self._method = method
        self._catalogue = catalogue
        self._forwarder = forwarder
        self._limiter = limiter
        self._cache = cache
        self._max_body = max_body
        self._names = routes.variables(route.path)
        self._in_id = frozenset(routes.variables(route.object_id))
        self.parameters = () if method is None or route.method != "GET" else query_parameters(route, method)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        route = self._route
        # Routes of one shape share one path, so their variables are matched by position.
        values: dict[str, str] = dict(zip(self._names, request.path.values(), strict=True))
        id = subjects.id_from_name(route.object_type, routes.fill(route.object_id, values))
        if route.permission is not None and not request.principal.has(route.permission, id=id):
            raise Failure("forbidden", f"this requires the permission {route.permission}")
        if route.limits is not None:
            limit, caller = (f"{ROUTE}-{route.id}", route.limits), (request.principal, request.address)
            await request.spend(resolve_when_ready(self._limiter.spend_on, *limit, *caller))
        method = self._check_method()
        payload = msgspec.json.encode(await self._read_arguments(request, method, values), order="deterministic")
        if not (route.cache_seconds and method.is_query):
            return await self._call(request, id, payload)
        key = (route.id, route.version, id, payload, identity(request.principal))
        response = self._cache.get(key)
        if response is None:
            response = await self._call(request, id, payload)
            self._cache.put(key, response, route.cache_seconds, len(payload))
        return response

    async def _call(self, request: HttpRequest, id: str, payload: bytes) -> HttpResponse:
        subject = subjects.call(self._route.object_type, id, self._route.object_method)
        reply = await self._forwarder.request_with_body(subject, payload, self._forwarder.options(request))
        return HttpResponse(200, b'{"result":%b}' % (reply or b"null"))

    def _check_method(self) -> Method:
        route, method = self._route, self._method
        if method is None:
            self._catalogue.check(route.object_type)
            raise Failure("unknown-method", f"{route.object_type} has no method {route.object_method}")
        if route.method == "GET" and not method.is_query:
            raise Failure("conflict", f"GET can only call queries, and {route.object_method} is a command")
        return method

    async def _read_arguments(self, request: HttpRequest, method: Method, values: dict[str, str]) -> dict[str, Any]:
        arguments: dict[str, Any] = {name: method.convert(name, text) for name, text in request.parameters.items()}
        if self._route.method != "GET":
            body = await request.body(self._max_body)
            fields: dict[str, msgspec.Raw] = bodies.decode(_fields, body or b"{}", "body")
            arguments |= fields
        for name, text in values.items():
            if name in self._in_id:
                continue
            if name in arguments:
                raise Failure("invalid", "the path already gives this argument", field=name)
            arguments[name] = method.convert(name, text)
        return arguments


def is_open(route: RouteInfo, method: Method | None) -> bool:
    """True if a route takes requests without a credential: it and its method ask for none."""
    return route.permission is None and method is not None and not method.description.needs_credential


def query_parameters(route: RouteInfo, method: Method) -> tuple[str, ...]:
    """Return the names of the arguments that a GET takes from its query string: all that the path doesn't give."""
    in_path: Iterable[str] = set(routes.variables(route.path)) - set(routes.variables(route.object_id))
    return tuple(name for name in method.properties if name not in in_path)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    raise Failure("not-found", "this path doesn't exist")
