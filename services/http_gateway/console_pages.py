"""The console: static files under `/console`, built from `clients/console` and kept in `console/`.

Promise: the console loads only its own files, and calls only this gateway. Each path below `/console` that isn't a file
shows the page itself, which finds out from the path what to show.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from aidevos.contracts.errors import Failure

from .http.guard import PublicGuard
from .http.request import HttpRequest, headers_of
from .http.responses import HttpResponse, MethodNotAllowed, send_response
from .http.versions import conditional_response
from .static_files import FOR_EVER, REVALIDATED, StaticFile

ROOT = "/console"
INDEX = "index.html"
# The names of these files contain a hash of their content.
HASHED = "assets/"


class Console:
    """An ASGI application that serves the files; anybody may load them, since they hold no data."""

    def __init__(self) -> None:
        folder = files(__package__) / "console"
        self._files = {name: StaticFile(name, content, _age(name)) for name, content in _read(folder)}
        self._guard = PublicGuard()

    def routes(self) -> list[Route]:
        """Return the routes of all paths that the console has."""
        paths = ("", "/", "/{page}", "/{page}/", "/{page}/{id}", "/{page}/{id}/")
        return [Route(ROOT + path, self) for path in paths]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(scope["method"], "GET, HEAD")
        headers = headers_of(scope)
        request = HttpRequest(scope, receive, headers, await self._guard.admit(scope, headers), {})
        await send_response(conditional_response(request, self._find(request)), send)

    def _find(self, request: HttpRequest) -> HttpResponse:
        name = "/".join(value for value in request.path.values() if value)
        file = self._files.get(name)
        if file is None and name.startswith(HASHED):
            raise Failure("not-found", "the console has no such file; reload the page")
        return (file or self._files[INDEX]).respond(request)


def _read(folder: Traversable, path: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        else:
            yield name, entry.read_bytes()


def _age(name: str) -> bytes:
    return FOR_EVER if name.startswith(HASHED) else REVALIDATED
