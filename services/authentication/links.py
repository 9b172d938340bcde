"""Tokens of links in mails: derived instead of stored.

A token is `<user>.<nonce>.<256 bits>`, the last part an HMAC-SHA256 of the others under a key that
only this service has. The nonce alone, which is at rest, is worth nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from aidevos.security.keys import ensure_secret
from aidevos.settings import Settings

LINKS_KEY = "links.key"


class Links:
    def __init__(self, settings: Settings) -> None:
        self._key = ensure_secret(settings.home, LINKS_KEY)

    def token(self, user: str, nonce: str) -> str:
        """The token of this user's link."""
        digest = hmac.digest(self._key, f"link.{user}.{nonce}".encode(), hashlib.sha256)
        return f"{user}.{nonce}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def nonce(self, user: str, token: str) -> str:
        """The nonce of a token that was made here for this user; empty for any other text."""
        nonce = token.split(".")[1] if token.count(".") == 2 else ""
        return nonce if hmac.compare_digest(self.token(user, nonce).encode(), token.encode()) else ""
