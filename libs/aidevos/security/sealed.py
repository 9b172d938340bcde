"""Small secrets that must be readable again, encrypted at rest: AES-256-GCM (NIST SP 800-38D).

Promises: a sealed value can be read only with the key, and only in the context in which it was sealed.
It is worthless for another object or another purpose. The key comes from `AIDEVOS_SECRET_KEY`, or else
from a file under the fleet's home. If there are several keys, the first one seals and all of them open, so keys can be
replaced, and a restored fleet can read what several services have sealed.
"""

from __future__ import annotations

import base64
import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aidevos.security.keys import ensure_secret
from aidevos.settings import SECRET_KEY_BYTES, Settings, secret_keys

FILE = "sealing.key"
NONCE = 12


def split_keys(content: bytes) -> list[bytes]:
    """Return the keys in the file, one after another. Raises `ValueError` for a file of another length."""
    if len(content) % SECRET_KEY_BYTES:
        raise ValueError(f"sealing keys have {SECRET_KEY_BYTES} bytes each")
    return [content[start : start + SECRET_KEY_BYTES] for start in range(0, len(content), SECRET_KEY_BYTES)]


class SealError(ValueError):
    """Raised if a value can't be opened: it was changed, or sealed in another context or with another key."""


class Sealer:
    """Seals and opens values with the settings' keys."""

    def __init__(self, settings: Settings) -> None:
        keys = secret_keys(settings.secret_key) or split_keys(ensure_secret(settings.home, FILE))
        self._ciphers = [AESGCM(key) for key in keys]

    def seal(self, value: bytes, *context: str) -> str:
        """Return the encrypted value as URL-safe text; `context` names its purpose and owner."""
        nonce = os.urandom(NONCE)
        sealed = nonce + self._ciphers[0].encrypt(nonce, value, msgspec.json.encode(context))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, sealed: str, *context: str) -> bytes:
        """Return the value that was sealed in this context. Raises `SealError`."""
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise SealError("this isn't a sealed value") from None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(raw[:NONCE], raw[NONCE:], msgspec.json.encode(context))
            except (InvalidTag, ValueError):
                continue
        raise SealError("the value was changed, or sealed in another context or with another key")
