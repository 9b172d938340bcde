"""Files that are part of the gateway, as browsers get them."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from importlib.resources import files

from .http.request import HttpRequest
from .http.responses import PAGE_POLICY, Header, HttpResponse

# Values of `Cache-Control`: for files whose names contain a hash of their content, and for all others.
FOR_EVER = b"public, max-age=31536000, immutable"
REVALIDATED = b"no-cache"
_VARY: Header = (b"vary", b"accept-encoding")


class StaticFile:
    """One file, as it is and compressed; `age` is its `Cache-Control`."""

    def __init__(self, name: str, content: bytes, age: bytes = REVALIDATED) -> None:
        kind = mimetypes.guess_type(name)[0] or "text/plain"
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

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the file in the form that the request takes."""
        return self._compressed if "gzip" in (request.header(b"accept-encoding") or "") else self._plain


def load_file(name: str) -> StaticFile:
    """Return a file of the gateway's own folder."""
    return StaticFile(name, (files(__package__) / name).read_bytes())
