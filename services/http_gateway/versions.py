"""Answers that show one version of something: its entity tag, and 304 for who has it already."""

from __future__ import annotations

import msgspec

from . import headers
from .answers import JSON_HEADER, Answer, Header
from .resource import Incoming


class _Shown(msgspec.Struct):
    """What the gateway reads of what is shown, which passes through as the host wrote it."""

    version: int


_shown = msgspec.json.Decoder(_Shown)


def versioned(reply: bytes, status: int = 200, *more: Header) -> Answer:
    """An answer with the `ETag` of the `version` in it, the last of its headers."""
    return Answer(status, reply, (JSON_HEADER, *more, (b"etag", b'"%d"' % _shown.decode(reply).version)))


def unless_known(incoming: Incoming, answer: Answer) -> Answer:
    """The answer, or 304 when `If-None-Match` names its version."""
    condition = incoming.header(b"if-none-match")
    etag = answer.headers[-1]
    if condition is None or headers.none_match(headers.entity_tags("If-None-Match", condition), etag[1].decode()):
        return answer
    return Answer(304, headers=(etag,))
