"""Where the next page of a query begins: opaque to the caller, and good for the same query alone.

Promise: a cursor that this fleet did not make, or made for another caller, collection, filter or
order, is refused. It is signed with a secret of the fleet (HMAC-SHA-256), and what it is bound to is
signed with it, though not in it.
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
TAG = 16
LIMIT = 64 * 1024


class Position(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The last item seen: by which key in which index, and by its object's ID. An index is told by its
    slot and what it is of, since another may have taken the slot."""

    slot: str | None
    index: list[str]
    key: str | None
    id: str


_position = msgspec.msgpack.Decoder(Position)


class Cursors:
    """Makes and reads cursors with a fleet's secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, home: Path) -> Cursors:
        """With the secret under this home, which is made if there is none."""
        return cls(ensure_secret(home, SECRET))

    def encode(self, position: Position, *bound_to: Any) -> str:
        """The cursor at a position; `bound_to` is whatever its next use must have in common with this one."""
        payload = msgspec.msgpack.encode(position)
        return base64.urlsafe_b64encode(self._tag(payload, bound_to) + payload).rstrip(b"=").decode()

    def decode(self, cursor: str, *bound_to: Any, field: str = "args.cursor") -> Position:
        """The position; raises `invalid` for a cursor that this query did not give."""
        try:
            text = cursor.encode("ascii")[: LIMIT + 1]
            raw = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
            tag, payload = raw[:TAG], raw[TAG:]
            if hmac.compare_digest(tag, self._tag(payload, bound_to)):
                return _position.decode(payload)
        except (UnicodeError, binascii.Error, msgspec.DecodeError):
            pass
        raise Failure("invalid", "the cursor is not one that this query gave", field=field)

    def _tag(self, payload: bytes, bound_to: tuple[Any, ...]) -> bytes:
        bound = msgspec.json.encode(bound_to, order="sorted")
        signed = len(bound).to_bytes(8, "big") + bound + payload
        return hmac.digest(self._secret, signed, hashlib.sha256)[:TAG]
