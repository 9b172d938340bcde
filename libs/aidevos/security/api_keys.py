"""The text of an API key: `adk_`, the ID of its object, 256 random bits, and a checksum, in base 62.

The prefix lets people and secret scanners recognise a key, and the checksum lets a mistyped key be
refused without a look-up. Only a SHA-256 of the key is stored: 256 random bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import string
import zlib
from typing import NamedTuple

from aidevos.contracts.errors import Failure

PREFIX = "adk_"
DIGITS = string.digits + string.ascii_letters
ID_DIGITS, SECRET_DIGITS, CHECK_DIGITS = 22, 43, 6
SHOWN_DIGITS = 4
# The number of looked-up keys that a process caches.
KNOWN_LIMIT = 10_000
_key = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{ID_DIGITS + SECRET_DIGITS}}})([0-9A-Za-z]{{{CHECK_DIGITS}}})").fullmatch


class KeyText(NamedTuple):
    """A key's text, and the `id` of its object."""

    id: str
    text: str

    @property
    def hashed(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def hint(self) -> str:
        """The last characters before the checksum, which may be shown so that the owner recognises the key."""
        return self.text[-CHECK_DIGITS - SHOWN_DIGITS : -CHECK_DIGITS]


is_id = re.compile(r"[0-9a-f]{32}").fullmatch


def make(id: str, secret: bytes) -> KeyText:
    """Return the key of the object with this ID (32 hexadecimal digits), made from 32 random bytes."""
    body = _encode(int(id, 16), ID_DIGITS) + _encode(int.from_bytes(secret, "big"), SECRET_DIGITS)
    return KeyText(id, f"{PREFIX}{body}{_checksum(body)}")


def parse(text: str) -> KeyText:
    """Return the key that a caller sent. Raises `unauthenticated` if it can't be a key."""
    parts = _key(text)
    if parts is None or not hmac.compare_digest(_checksum(parts[1]), parts[2]):
        raise Failure("unauthenticated", "the API key is incomplete or has a typing mistake")
    number = _decode(parts[1][:ID_DIGITS])
    if number >= 2**128:
        raise Failure("unauthenticated", "the API key is not valid")
    return KeyText(f"{number:032x}", text)


def _checksum(body: str) -> str:
    return _encode(zlib.crc32(body.encode()), CHECK_DIGITS)


def _encode(number: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text


def _decode(text: str) -> int:
    number = 0
    for digit in text:
        number = number * len(DIGITS) + DIGITS.index(digit)
    return number
