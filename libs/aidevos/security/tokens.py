"""Access tokens: JWTs signed with EdDSA (RFC 9068, hardened as RFC 8725 asks), one at both doors.

The gateway and every host verify each token themselves. A verified token is cached until it
expires; what can't be verified is `unauthenticated`, with the same words whatever was wrong
beyond "expired", so that a forger learns nothing.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aidevos.contracts.errors import Failure
from aidevos.security.keys import SigningKey
from aidevos.security.permissions import ROLES, Principal

log = logging.getLogger(__name__)
ISSUER = "aidevos"
AUDIENCE = "aidevos"
TYPE = "at+jwt"
LIFETIME = 900.0
TOKEN_LIMIT = 8192
CACHE_LIMIT = 20_000
# Seconds between two looks for new keys: an unknown key ID costs nothing.
RELOAD_EVERY = 1.0


class TokenIssuer:
    """Signs access tokens."""

    def __init__(self, key: SigningKey, now: Callable[[], float] = time.time) -> None:
        self.key = key
        self._now = now

    def issue(
        self,
        subject: str,
        *,
        roles: tuple[str, ...] = (),
        permissions: tuple[str, ...] = (),
        lifetime: float = LIFETIME,
        session: str = "",
        issued_at: float | None = None,
        id: str | None = None,
    ) -> str:
        """A token for the subject; `permissions` come on top of what the roles allow. With the same
        `issued_at` and `id` it is the same token again."""
        now = int(self._now() if issued_at is None else issued_at)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": ISSUER,
            "iat": now,
            "exp": now + int(lifetime),
            "jti": id or secrets.token_urlsafe(16),
            "roles": list(roles),
            "permissions": list(permissions),
        }
        if session:
            claims["sid"] = session
        return jwt.encode(claims, self.key.private, algorithm="EdDSA", headers={"kid": self.key.id, "typ": TYPE})


class TokenVerifier:
    """Turns the `Authorization` header of a request into a `Principal`."""

    def __init__(
        self, load_keys: Callable[[], Mapping[str, Ed25519PublicKey]], now: Callable[[], float] = time.time
    ) -> None:
        self._load_keys = load_keys
        self._keys = load_keys()
        self._now = now
        self._reload_at = 0.0
        self._cache: dict[str, Principal] = {}
        self._revoked: dict[str, float] = {}

    def revoke(self, session: str, at: float) -> None:
        """Refuse the tokens of a session that ended at this moment, until the last of them has expired."""
        if len(self._revoked) >= CACHE_LIMIT:
            oldest = self._now() - LIFETIME
            self._revoked = {name: moment for name, moment in self._revoked.items() if moment > oldest}
        self._revoked[session] = at

    def verify(self, authorization: str | None) -> Principal:
        """The caller; raises `unauthenticated`."""
        principal = self._cache.get(authorization or "")
        if principal is None:
            principal = self._decode(authorization)
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            self._cache[authorization or ""] = principal
        if principal.expires_at <= self._now():
            self._cache.pop(authorization or "", None)
            raise _refused("the token has expired")
        if principal.session and principal.session in self._revoked:
            raise _refused("the session has ended")
        return principal

    def _decode(self, authorization: str | None) -> Principal:
        if not authorization:
            raise _refused("send the header Authorization: Bearer <token>")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LIMIT:
            raise _refused("the Authorization header must be: Bearer <token>")
        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("typ", "")).lower() not in (TYPE, f"application/{TYPE}"):
                raise _refused("the token is not valid")
            claims = jwt.decode(
                token,
                self._key(header.get("kid")),
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                },
            )
            roles = tuple(str(role) for role in claims.get("roles", ()))
            permissions = frozenset(str(name) for name in claims.get("permissions", ()))
            expires_at = float(claims["exp"])
            session = str(claims.get("sid", ""))
            subject = str(claims["sub"])
            subject.encode()
            if not math.isfinite(expires_at):
                raise ValueError("exp")
        except (jwt.PyJWTError, ValueError, OverflowError, TypeError, AttributeError, RecursionError):
            raise _refused("the token is not valid") from None
        granted = permissions.union(*(ROLES.get(role, frozenset()) for role in roles))
        return Principal(subject, roles, granted, expires_at, session)

    def _key(self, kid: object) -> Ed25519PublicKey:
        if kid not in self._keys and self._now() >= self._reload_at:
            self._reload_at = self._now() + RELOAD_EVERY
            try:
                self._keys = self._load_keys()
            except (OSError, ValueError, KeyError) as error:
                log.error("the public keys can't be read: %s", error)
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise _refused("the token is not valid")
        return key


def _refused(detail: str) -> Failure:
    return Failure("unauthenticated", detail)
