"""Access tokens: JWTs signed with EdDSA (RFC 9068, hardened as RFC 8725 asks), one at both doors.

The gateway and every host verify each token themselves. A verified token is cached until it
expires, and judged anew whenever access or roles change; what can't be verified is
`unauthenticated`, with the same words whatever was wrong beyond "expired", so that a forger learns
nothing.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aidevos.contracts.authentication import TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security.access import Access, Change, Claims
from aidevos.security.keys import SigningKey
from aidevos.security.permissions import Principal

log = logging.getLogger(__name__)
ISSUER = "aidevos"
AUDIENCE = "aidevos"
TYPE = "at+jwt"
LIFETIME = TOKEN_LIFETIME
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
        version: int | None = None,
    ) -> str:
        """A token for the subject; `permissions` come on top of what the roles allow. With the same
        `issued_at` and `id` it is the same token again. `version` is the user's that had these roles."""
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
        if version is not None:
            claims["ver"] = version
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
        self._access = Access(now)
        self._ended = self._access.ended_sessions
        self._cache: dict[str, Principal] = {}
        self._verified: dict[str, Claims] = {}

    def revoke(self, session: str, at: float) -> None:
        """Refuse the tokens of a session that ended at this moment, until the last of them has expired."""
        if self._access.end_session(session, at):
            self._cache.clear()

    def change_access(self, subject: str, change: Change) -> None:
        """Judge the tokens of a user from before a change by what it has made of the user."""
        self._access.change(subject, change)
        self._cache.clear()

    def set_roles(self, roles: Mapping[str, frozenset[str]]) -> None:
        """Take the custom roles, all of them, by name: what each allows from now on."""
        if self._access.set_roles(roles):
            self._cache.clear()

    def verify(self, authorization: str | None) -> Principal:
        """The caller; raises `unauthenticated`, and `unavailable` while custom roles aren't known."""
        principal = self._cache.get(authorization or "")
        if principal is None:
            principal = self._judge(authorization or "")
        if principal.expires_at <= self._now():
            self._cache.pop(authorization or "", None)
            self._verified.pop(authorization or "", None)
            raise _refused("the token has expired")
        if principal.session and principal.session in self._ended:
            raise _refused("the session has ended")
        return principal

    def _judge(self, authorization: str) -> Principal:
        claims = self._verified.get(authorization)
        if claims is None:
            claims = self._decode(authorization)
            if len(self._verified) >= CACHE_LIMIT:
                self._verified.clear()
                self._cache.clear()
            self._verified[authorization] = claims
        principal = self._cache[authorization] = self._access.judge(claims)
        return principal

    def _decode(self, authorization: str) -> Claims:
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
            expires_at, issued_at = float(claims["exp"]), float(claims["iat"])
            session = str(claims.get("sid", ""))
            version = claims.get("ver")
            subject = str(claims["sub"])
            subject.encode()
            if not math.isfinite(expires_at) or not math.isfinite(issued_at):
                raise ValueError("exp")
            if not isinstance(version, int | None):
                raise ValueError("ver")
        except (jwt.PyJWTError, ValueError, OverflowError, TypeError, AttributeError, RecursionError):
            raise _refused("the token is not valid") from None
        return Claims(subject, roles, permissions, expires_at, issued_at, session, version)

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
