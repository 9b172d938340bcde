"""An index of paths by their segments. A literal segment wins over a variable, from left to right."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aidevos.contracts.errors import Failure


class Paths:
    """An ASGI application of routes, whose paths have variables like `{name}` for whole segments.

    Of routes with the same shape, the first counts. `default` serves every other path.
    """

    def __init__(self, routes: Iterable[Route], default: ASGIApp) -> None:
        self.routes = list(routes)
        self._default = default
        self._root = _Node()
        for route in self.routes:
            self._root.add(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        values: list[str] = []
        segments = scope["path"].split("/")
        found = self._root.find(segments, 1, values)
        if found is None:
            if not segments[-1] and self._root.find(segments[:-1], 1, []):
                raise Failure("not-found", "this path doesn't exist; without the slash at its end, it does")
            await self._default(scope, receive, send)
            return
        route, names = found
        scope["route"] = route
        scope["path_params"] = dict(zip(names, reversed(values), strict=True))
        await route.app(scope, receive, send)


class _Node:
    """The routes below a beginning of their paths: by their next segment, and the one that ends here."""

    __slots__ = ("ends", "literals", "variable")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.ends: tuple[Route, tuple[str, ...]] | None = None

    def add(self, route: Route) -> None:
        node, names = self, list[str]()
        for segment in route.path.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.variable = node = node.variable or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        node.ends = node.ends or (route, tuple(names))

    def find(self, segments: list[str], at: int, values: list[str]) -> tuple[Route, tuple[str, ...]] | None:
        """Return the route for the segments from the one `at`, and append the variables' values, the last one first."""
        if at == len(segments):
            return self.ends
        segment = segments[at]
        below = self.literals.get(segment)
        found = below.find(segments, at + 1, values) if below is not None else None
        if found is None and self.variable is not None and segment:
            found = self.variable.find(segments, at + 1, values)
            if found is not None:
                values.append(segment)
        return found
