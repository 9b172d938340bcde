"""Cursors: where the next page of a query begins, opaque to callers.

A cursor holds the place and what it was a place in. It is signed with a key that only this service
has, so it says what this service has said, and about the same query.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from aidevos.contracts.errors import Failure

TAG = 16


class Cursors:
    """Signs and reads cursors with a secret key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, query: Sequence[object], place: str) -> str:
        """The cursor at a place in what a query finds."""
        text = place.encode()
        return base64.urlsafe_b64encode(self._tag(query, text) + text).rstrip(b"=").decode()

    def decode(self, cursor: str, query: Sequence[object], field: str) -> str:
        """The place; raises `invalid` for a cursor that this query has not given."""
        try:
            text = cursor.encode("ascii")
            told = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (UnicodeError, binascii.Error):
            told = b""
        tag, place = told[:TAG], told[TAG:]
        if not hmac.compare_digest(tag, self._tag(query, place)):
            raise Failure("invalid", "the cursor is not one that this query gave; begin again", field=field)
        return place.decode()

    def _tag(self, query: Sequence[object], place: bytes) -> bytes:
        told = hashlib.sha256(msgspec.json.encode(query)).digest() + place
        return hmac.digest(self._key, told, hashlib.sha256)[:TAG]
