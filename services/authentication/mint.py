"""The tokens of sessions: access tokens, and refresh tokens that are derived instead of stored.

A refresh token is `<session>.<number>.<256 bits>`, where `number` counts the session's rotations. The
last part is an HMAC-SHA256 (RFC 2104) of the others under a key that only this service has. Nothing
of the token is stored, the pair of a number can be issued again, and a spent token can be
distinguished from a forged one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from aidevos.contracts.authentication import TokenPair, enrolment_subject
from aidevos.contracts.users import User
from aidevos.security.keys import SigningKeys, ensure_secret
from aidevos.security.tokens import TokenIssuer
from aidevos.settings import Settings

REFRESH_KEY = "refresh.key"
_parts = re.compile(r"([A-Za-z0-9_-]{1,128})\.([0-9]{1,12})\.[A-Za-z0-9_-]{43}").fullmatch


class Mint:
    """Issues the token pairs of sessions, and checks refresh tokens."""

    def __init__(self, settings: Settings) -> None:
        self._key = ensure_secret(settings.home, REFRESH_KEY)
        self._issuer = TokenIssuer(SigningKeys(settings.home), settings.public_url)
        self._age = settings.access_age

    def issue_pair(
        self,
        session: str,
        number: int,
        user: User,
        roles: list[str],
        at: float,
        version: int | None = None,
        *,
        must_enrol: bool = False,
    ) -> TokenPair:
        """Return the tokens of a session after `number` rotations. Equal arguments give equal tokens.

        `at` is the time of issue in seconds since the epoch. `version` is the user's version that had these roles.
        With `must_enrol`, the access token is good for this session alone.
        """
        access = self._issuer.issue(
            enrolment_subject(session) if must_enrol else user.id,
            roles=() if must_enrol else tuple(roles),
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
            must_enrol=must_enrol,
        )

    def read_number(self, session: str, token: str) -> int | None:
        """Return the number of a genuine refresh token of this session, spent or not; None for any other text."""
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
