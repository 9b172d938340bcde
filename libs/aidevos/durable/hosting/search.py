"""Where the next page of a search begins, opaque to the caller."""

from __future__ import annotations

import base64
import binascii

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.store.condition import Path, at
from aidevos.durable.store.port import Document, Find

CURSOR_LIMIT = 4096


class _Place(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    order: Path
    descending: bool
    value: str | float
    id: str


_places = msgspec.json.Decoder(_Place)


def encode_place(wanted: Find, last: Document) -> str:
    """The cursor after a document."""
    value = at(last.state, wanted.order or ())
    place = [wanted.order, wanted.descending, value, last.id]
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def decode_place(cursor: str, wanted: Find) -> tuple[str | float, str]:
    """What a cursor says; raises `invalid` for one that no search in this order gave."""
    try:
        text = cursor.encode("ascii")[: CURSOR_LIMIT + 1]
        place = _places.decode(base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError, RecursionError):
        place = None
    if place is None or (place.order, place.descending) != (wanted.order, wanted.descending):
        raise Failure("invalid", "the cursor is not one that this search gave", field="args.cursor")
    return place.value, place.id
