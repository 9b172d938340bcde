"""The API's description and the catalogue of errors as pages, and the documentation as text.

The first page is Swagger UI, vendored in `viewer/` with a script that updates it. The `type` of problem
documents leads to the second.

Promise: the pages load only their own files and the document from this gateway.
"""

from __future__ import annotations

import hashlib
import re
from html import escape
from importlib.resources import files

from aidevos.contracts.errors import CATALOGUE, CODES, Code, Failure

from .documentation import Documentation
from .http.request import HttpRequest
from .http.responses import PAGE_POLICY, Header, HttpResponse
from .http.versions import conditional_response

_HTML = b"text/html; charset=utf-8"
_ERRORS = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Errors</title>
<link rel="icon" href="data:,">
<h1>Errors</h1>
<p>Every error is a problem document (RFC 9457), and its <code>code</code> is stable. A code that is not listed here
belongs to a type of objects: see the documentation of that type.
"""
_FILES = {
    "start.js": b"text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
}


class Docs:
    """The pages and their files, read once, and the documentation."""

    def __init__(self, documentation: Documentation) -> None:
        self._documentation = documentation
        self.page = _read("index.html", _HTML)
        self._files = {name: _read(name, media_type) for name, media_type in _FILES.items()}
        self._files[CATALOGUE.rpartition("/")[2]] = _respond(errors_page().encode(), _HTML)

    async def file(self, request: HttpRequest) -> HttpResponse:
        """Return a file that the page loads, the catalogue of errors, or a page of the documentation.

        Raises `not-found`.
        """
        path = "/".join(request.path.values())
        if path in self._files:
            return conditional_response(request, self._files[path])
        page = self._documentation.page(path)
        if page is None:
            raise Failure("not-found", "there is no such page or file")
        return conditional_response(request, page.respond(request))


def errors_page() -> str:
    """Return the catalogue of errors as HTML, with each code as an anchor."""
    return _ERRORS + "".join(_entry(name, code) for name, code in CODES.items())


def _entry(name: str, code: Code) -> str:
    """Return one code of the catalogue as HTML."""
    title, when, remedy = (_mark_code(escape(text)) for text in (code.title + ".", code.when, code.remedy))
    retry = "yes" if code.retryable else "no"
    return (
        f'<h2 id="{name}">{name}</h2>\n<p>{title}\n<ul>\n<li>HTTP status: {code.status}\n<li>Retryable: {retry}\n'
        f"<li>When: {when}\n<li>What to do: {remedy}\n</ul>\n"
    )


def _mark_code(text: str) -> str:
    """Mark up text between backticks, the only markup in the catalogue's sentences."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def _read(name: str, media_type: bytes) -> HttpResponse:
    return _respond((files(__package__) / "viewer" / name).read_bytes(), media_type)


def _respond(content: bytes, media_type: bytes) -> HttpResponse:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers: tuple[Header, ...] = (
        (b"content-type", media_type),
        PAGE_POLICY,
        # `conditional_response` takes the last one for the version.
        (b"etag", etag.encode()),
    )
    return HttpResponse(200, content, headers)
