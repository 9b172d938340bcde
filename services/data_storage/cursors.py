"""Cursors: opaque texts that say where the next page of a query begins, valid only for the same query.

Promise: a cursor that this fleet did not issue, or issued for another caller, collection, filter or
order, is refused. A cursor is signed with a secret of the fleet (HMAC-SHA-256). The signature also
covers the query to which the cursor is bound, although the cursor doesn't contain the query.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Any

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.security.keys import ensure_secret

SECRET = "cursors"  # noqa: S105
TAG_SIZE = 16
LIMIT = 64 * 1024


class Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The last item seen, by its key in an index.

    The index is identified by its slot and its paths, since another index may have taken the slot. `slot` is
    None if the query used no index.
    """

    slot: str | None
    index: list[str]
    key: str | None
    id: str


_position = msgspec.msgpack.Decoder(Position)


class Cursors:
    """Issues and reads cursors with a fleet's secret."""

    def __init__(self, secret: bytes) -> None:
        # Copies of it are made faster than it is.
        self._keyed = hmac.new(secret, digestmod=hashlib.sha256)

    @classmethod
    def load(cls, home: Path) -> Cursors:
        """Return cursors with the secret under this home, which is created if it is missing."""
        return cls(ensure_secret(home, SECRET))

    def encode(self, position: Position, *binding: Any) -> str:
        """Return the cursor for a position. `decode` must get the same `binding`."""
        payload = msgspec.msgpack.encode(position)
        return base64.urlsafe_b64encode(self._tag(payload, binding) + payload).rstrip(b"=").decode()

    def decode(self, cursor: str, *binding: Any, field: str = "args.cursor") -> Position:
        """Return the position of a cursor. Raises `invalid` if it was not issued with this binding."""
        try:
            text = cursor.encode("ascii")[: LIMIT + 1]
            raw = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
            tag, payload = raw[:TAG_SIZE], raw[TAG_SIZE:]
            if hmac.compare_digest(tag, self._tag(payload, binding)):
                return _position.decode(payload)
        except (UnicodeError, binascii.Error, msgspec.DecodeError):
            pass
        raise Failure("invalid", "this cursor was not issued for this query", field=field)

    def _tag(self, payload: bytes, binding: tuple[Any, ...]) -> bytes:
        encoded = msgspec.json.encode(binding, order="sorted")
        keyed = self._keyed.copy()
        keyed.update(len(encoded).to_bytes(8, "big") + encoded + payload)
        return keyed.digest()[:TAG_SIZE]
