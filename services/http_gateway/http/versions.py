"""Responses that show one version of something, with its entity tag, and 304 for clients that already have it."""

from __future__ import annotations

import msgspec

from . import headers
from .request import HttpRequest
from .responses import JSON_HEADER, Header, HttpResponse


class _Shown(msgspec.Struct):
    """The part of a reply that the gateway reads; the reply passes through as the host encoded it."""

    version: int


# The headers that describe a body, which 304 doesn't have.
_OF_BODY = frozenset({b"content-type", b"content-encoding"})
_shown = msgspec.json.Decoder(_Shown)


def versioned_response(reply: bytes, status: int = 200, *more: Header) -> HttpResponse:
    """Return a response whose last header is the `ETag` of the reply's `version`."""
    return HttpResponse(status, reply, (JSON_HEADER, *more, (b"etag", b'"%d"' % _shown.decode(reply).version)))


def conditional_response(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the response, or 304 if `If-None-Match` names its version (the last header)."""
    condition = request.header(b"if-none-match")
    etag = response.headers[-1]
    if condition is None or headers.matches_none(
        headers.parse_entity_tags("If-None-Match", condition), etag[1].decode()
    ):
        return response
    # Browsers replace the stored headers by these (RFC 9111 §3.2), and with them what the page may load.
    return HttpResponse(304, headers=tuple(header for header in response.headers if header[0] not in _OF_BODY))
