"""Answers that show one version of something: its entity tag, and 304 for who has it already."""

from __future__ import annotations

import msgspec

from . import headers
from .request import HttpRequest
from .responses import JSON_HEADER, Header, HttpResponse


class _Shown(msgspec.Struct):
    """What the gateway reads of what is shown, which passes through as the host wrote it."""

    version: int


_shown = msgspec.json.Decoder(_Shown)


def versioned(reply: bytes, status: int = 200, *more: Header) -> HttpResponse:
    """An answer with the `ETag` of the `version` in it, the last of its headers."""
    return HttpResponse(status, reply, (JSON_HEADER, *more, (b"etag", b'"%d"' % _shown.decode(reply).version)))


def unless_known(request: HttpRequest, answer: HttpResponse) -> HttpResponse:
    """The answer, or 304 when `If-None-Match` names its version."""
    condition = request.header(b"if-none-match")
    etag = answer.headers[-1]
    if condition is None or headers.none_match(headers.entity_tags("If-None-Match", condition), etag[1].decode()):
        return answer
    return HttpResponse(304, headers=(etag,))
