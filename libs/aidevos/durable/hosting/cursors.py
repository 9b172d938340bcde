"""Cursors, which are opaque to the caller and say where the next page of a search begins."""

from __future__ import annotations

import base64
import binascii

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.store.conditions import Path, at
from aidevos.durable.store.port import Find, Match

CURSOR_LIMIT = 4096


class _Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    order: Path
    descending: bool
    value: str | float
    id: str


_positions = msgspec.json.Decoder(_Position)


def encode_cursor(wanted: Find, last: Match) -> str:
    """Return the cursor that continues a search after a document."""
    value = at(last.state, wanted.order or ())
    position = [wanted.order, wanted.descending, value, last.id]
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str, wanted: Find) -> tuple[str | float, str]:
    """Return the sort value and the ID that a cursor holds. Raises `invalid` for a cursor from another search order."""
    try:
        text = cursor.encode("ascii")[: CURSOR_LIMIT + 1]
        position = _positions.decode(base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError, RecursionError):
        position = None
    if position is None or (position.order, position.descending) != (wanted.order, wanted.descending):
        raise Failure("invalid", "the cursor is not from this search", field="args.cursor")
    return position.value, position.id
