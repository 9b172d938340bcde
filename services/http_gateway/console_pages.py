"""The console: static files under `/console`, built from `clients/console` and kept in `console/`.

Promise: the console loads only its own files, and calls only this gateway. Each path below `/console` that isn't a file
shows the page itself, which finds out from the path what to show.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from aidevos.contracts.errors import Failure

from .http.guard import PublicGuard
from .http.request import HttpRequest, headers_of
from .http.responses import PAGE_POLICY, Header, HttpResponse, MethodNotAllowed, send_response
from .http.versions import conditional_response

ROOT = "/console"
INDEX = "index.html"
# The names of these files contain a hash of their content.
HASHED = "assets/"
_VARY: Header = (b"vary", b"accept-encoding")


class Console:
    """An ASGI application that serves the files; anybody may load them, since they hold no data."""

    def __init__(self) -> None:
        folder = files(__package__) / "console"
        self._files = {name: _File(name, content) for name, content in _read(folder)}
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
        return (file or self._files[INDEX]).respond("gzip" in (request.header(b"accept-encoding") or ""))


class _File:
    """One file, as it is and compressed."""

    def __init__(self, name: str, content: bytes) -> None:
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        age = b"public, max-age=31536000, immutable" if name.startswith(HASHED) else b"no-cache"
        # `conditional_response` takes the last header for the version.
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'.encode()
        headers: tuple[Header, ...] = (
            (b"content-type", f"{kind}; charset=utf-8".encode()),
            PAGE_POLICY,
            (b"cache-control", age),
            _VARY,
        )
        self._plain = HttpResponse(200, content, (*headers, (b"etag", etag)))
        compressed = (*headers, (b"content-encoding", b"gzip"), (b"etag", etag))
        self._compressed = HttpResponse(200, gzip.compress(content, mtime=0), compressed)

    def respond(self, takes_gzip: bool) -> HttpResponse:
        return self._compressed if takes_gzip else self._plain


def _read(folder: Traversable, path: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        else:
            yield name, entry.read_bytes()
