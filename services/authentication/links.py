"""The tokens of links in mails, which are derived instead of stored.

A token is `<user>.<nonce>.<256 bits>`. The last part is an HMAC-SHA256 (RFC 2104) of the others under
a key that only this service has. Only the nonce is stored, and it is worthless alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from aidevos.security.keys import ensure_secret
from aidevos.settings import Settings

LINKS_KEY = "links.key"


class LinkTokens:
    """Derives tokens and checks them."""

    def __init__(self, settings: Settings) -> None:
        self._key = ensure_secret(settings.home, LINKS_KEY)

    def derive(self, user: str, nonce: str) -> str:
        """Return the token of the user's link with this nonce."""
        digest = hmac.digest(self._key, f"link.{user}.{nonce}".encode(), hashlib.sha256)
        return f"{user}.{nonce}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"

    def read_nonce(self, user: str, token: str) -> str:
        """Return the nonce of a genuine token of this user, or an empty string for any other text."""
        nonce = token.split(".")[1] if token.count(".") == 2 else ""
        return nonce if hmac.compare_digest(self.derive(user, nonce).encode(), token.encode()) else ""
