"""Small secrets that must be read back, encrypted at rest: AES-256-GCM (NIST SP 800-38D).

Promises: what is sealed can be read with the key alone; it opens only in the context in which it was
sealed, so a value that is moved to another object or put to another use is worth nothing. The key is
the setting `AIDEVOS_SECRET_KEY`, or else a file under the fleet's home. Of several keys in the
setting the first one seals and all of them open: so a key is replaced.
"""

from __future__ import annotations

import base64
import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aidevos.security.keys import ensure_secret
from aidevos.settings import Settings, secret_keys

FILE = "sealing.key"
NONCE = 12


class SealError(ValueError):
    """The value can't be opened: it was changed, or sealed in another context or under another key."""


class Sealer:
    """Seals with the settings' key."""

    def __init__(self, settings: Settings) -> None:
        keys = secret_keys(settings.secret_key) or [ensure_secret(settings.home, FILE)]
        self._ciphers = [AESGCM(key) for key in keys]

    def seal(self, value: bytes, *context: str) -> str:
        """The value, encrypted, as URL-safe text; `context` says what it is and whose."""
        nonce = os.urandom(NONCE)
        sealed = nonce + self._ciphers[0].encrypt(nonce, value, msgspec.json.encode(context))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, sealed: str, *context: str) -> bytes:
        """The value that was sealed in this context; raises `SealError`."""
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise SealError("this is no sealed value") from None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:NONCE], raw[NONCE:], msgspec.json.encode(context))
            except (InvalidTag, ValueError):
                continue
        raise SealError("the value was changed, or sealed in another context or under another key")
