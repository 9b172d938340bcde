"""Tokens of sessions: access tokens, and refresh tokens that are derived instead of stored.

A refresh token is `<session>.<number>.<256 bits>`, the last part an HMAC-SHA256 of the others under
a key that only this service has. So nothing of it is at rest, the pair of a number can be made
again, and a spent token can be told from an invented one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from aidevos.contracts.authentication import TokenPair
from aidevos.contracts.users import User
from aidevos.security.keys import SigningKeys, ensure_secret
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings

REFRESH_KEY = "refresh.key"
_parts = re.compile(r"([A-Za-z0-9_-]{1,128})\.([0-9]{1,12})\.[A-Za-z0-9_-]{43}").fullmatch


class Mint:
    def __init__(self, settings: Settings) -> None:
        self._key = ensure_secret(settings.home, REFRESH_KEY)
        self._issuer = TokenIssuer(SigningKeys(settings.home), settings.public_url)
        self._age = settings.access_age

    def pair(
        self, session: str, number: int, user: User, roles: list[str], at: float, version: int | None = None
    ) -> TokenPair:
        """The tokens of a session after `number` rotations; the same ones for the same arguments.
        `version` is the user's that had these roles."""
        access = self._issuer.issue(
            user.id,
            roles=tuple(roles),
            lifetime=self._age,
            session=session,
            issued_at=at,
            id=self._digest(f"access.{session}.{number}"),
            version=version,
        )
        return TokenPair(
            access_token=access,
            refresh_token=self._refresh_token(session, number),
            expires_in=int(self._age),
            user=user,
        )

    def number(self, session: str, token: str) -> int | None:
        """The number of a refresh token that was made here for this session; None for any other text."""
        parts = _parts(token)
        if parts is None or parts[1] != session:
            return None
        number = int(parts[2])
        return number if hmac.compare_digest(self._refresh_token(session, number), token) else None

    def _refresh_token(self, session: str, number: int) -> str:
        return f"{session}.{number}.{self._digest(f'refresh.{session}.{number}')}"

    def _digest(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
