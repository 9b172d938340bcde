"""The API's description as a page: Swagger UI, which is vendored in `viewer/` with a script that updates it.

Promise: the page loads its own files and the document from this gateway, and nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from aidevos.contracts.errors import Failure

from .http.request import HttpRequest
from .http.responses import Header, HttpResponse
from .http.versions import conditional_response

# `style-src` has no 'unsafe-inline': Swagger UI sets styles by the CSSOM. Its style sheet has images in data URLs.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "start.js": b"text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
}


class Docs:
    """The page and its files, read once."""

    def __init__(self) -> None:
        self.page = _read("index.html", b"text/html; charset=utf-8")
        self._files = {name: _read(name, media_type) for name, media_type in _FILES.items()}

    async def file(self, request: HttpRequest) -> HttpResponse:
        """Return a file that the page loads; raises `not-found`."""
        file = self._files.get(request.path["file"])
        if file is None:
            raise Failure("not-found", "the page has no such file")
        return conditional_response(request, file)


def _read(name: str, media_type: bytes) -> HttpResponse:
    content = (files(__package__) / "viewer" / name).read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers: tuple[Header, ...] = (
        (b"content-type", media_type),
        (b"content-security-policy", _POLICY),
        # `conditional_response` takes the last one for the version.
        (b"etag", etag.encode()),
    )
    return HttpResponse(200, content, headers)
