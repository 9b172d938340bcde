"""The gateway's own paths, indexed by first segment, so that a request is matched only with the routes below it."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send


class Segments:
    """An ASGI application of routes, none of which begins with a variable.

    Longer paths are tried first, and a literal segment before a variable. `default` serves every other
    path.
    """

    def __init__(self, routes: Iterable[Route], default: ASGIApp) -> None:
        self.routes = sorted(routes, key=lambda route: _precedence(route.path))
        self._default = default
        below: dict[str, list[Route]] = {}
        for route in self.routes:
            below.setdefault(_first(route.path), []).append(route)
        self._routers = {
            first: Router(found, redirect_slashes=False, default=default) for first, found in below.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._routers.get(_first(scope["path"]), self._default)(scope, receive, send)


def _first(path: str) -> str:
    return path.removeprefix("/").partition("/")[0]


def _precedence(path: str) -> tuple[int, list[bool]]:
    segments = path.split("/")
    return -len(segments), [segment.startswith("{") for segment in segments]
