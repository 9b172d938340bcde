"""Cursors of the list of objects: where in which type the next page begins, opaque to the caller."""

from __future__ import annotations

import base64
import binascii

import msgspec

from aidevos.contracts.errors import Failure

CURSOR_LIMIT = 4096


class Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A type, and the host's own cursor in it; without one its first page."""

    type: str
    cursor: str | None = None


_position = msgspec.json.Decoder(Position)


def encode_cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> Position:
    """Raises `invalid` for text that `encode_cursor` didn't make."""
    try:
        text = cursor.encode("ascii")[: CURSOR_LIMIT + 1]
        position = _position.decode(base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError, RecursionError):
        position = None
    if position is None or encode_cursor(position) != cursor:
        raise Failure("invalid", "the cursor is not one that a list gave", field="cursor")
    return position
