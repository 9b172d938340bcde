"""The gateway's own paths, looked up by their first segment: a request is matched with the routes below it alone."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send


class Segments:
    """Routes in their order, of which none begins with a variable, as an ASGI application; `default` answers
    what is none of them."""

    def __init__(self, routes: Iterable[Route], default: ASGIApp) -> None:
        self.routes = list(routes)
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
