"""Access tokens: JWTs signed with EdDSA (RFC 9068, hardened as RFC 8725 asks), one at both doors.

The gateway and every host verify each token themselves. A token has exactly the header that the
issuer writes, so nothing in it chooses an algorithm or brings a key. A verified token is cached until
it expires or its key is dropped; what can't be verified is `unauthenticated`, with the same words
whatever was wrong beyond "expired", so that a forger learns nothing.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from aidevos.contracts.errors import Failure
from aidevos.security.key_ring import MARGIN, TOKEN_LIFE, SigningKey
from aidevos.security.permissions import ROLES, Principal

log = logging.getLogger(__name__)
AUDIENCE = "aidevos"
TYPE = "at+jwt"
LIFETIME = TOKEN_LIFE
TOKEN_LIMIT = 8192
CACHE_LIMIT = 20_000
# Seconds between two looks for new keys, and of those between two that an unknown key ID causes.
RELOAD_EVERY = 1.0
_Text = Annotated[str, Meta(min_length=1)]
_Moment = Annotated[float, Meta(ge=0, le=2**53)]


class Claims(msgspec.Struct, kw_only=True):
    """What a token says; moments are in seconds since the epoch."""

    iss: _Text
    aud: _Text
    sub: _Text
    client_id: _Text
    jti: _Text
    iat: _Moment
    exp: _Moment
    nbf: _Moment = 0.0
    roles: tuple[str, ...]
    permissions: frozenset[str]
    sid: str = ""


_claims = msgspec.json.Decoder(Claims)


class Signing(Protocol):
    """Where an issuer has its keys from."""

    def at(self, moment: float) -> SigningKey: ...


class TokenIssuer:
    """Signs access tokens in the name of `issuer`, the fleet's public URL."""

    def __init__(self, keys: Signing, issuer: str, now: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self._issuer = issuer
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
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": AUDIENCE,
            "iat": now,
            "exp": now + int(lifetime),
            "jti": id or secrets.token_urlsafe(16),
            "roles": list(roles),
            "permissions": list(permissions),
        }
        if session:
            claims["sid"] = session
        key = self.keys.at(now)
        return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.id, "typ": TYPE})


class TokenVerifier:
    """Turns the `Authorization` header of a request into a `Principal`."""

    def __init__(
        self,
        load_keys: Callable[[], Mapping[str, Ed25519PublicKey]],
        issuer: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._load_keys = load_keys
        self._keys = load_keys()
        self._issuer = issuer
        self._now = now
        self._reload_at = now() + RELOAD_EVERY
        self._search_at = 0.0
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
        now = self._now()
        if now >= self._reload_at:
            self._reload()
        principal = self._cache.get(authorization or "")
        if principal is None:
            principal = self._decode(authorization)
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            self._cache[authorization or ""] = principal
        if principal.expires_at <= now:
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
            kid = header.get("kid")
            if header != {"alg": "EdDSA", "typ": TYPE, "kid": kid}:
                raise ValueError("header")
            payload = jwt.PyJWS().decode(token, self._key(kid), algorithms=["EdDSA"])
            claims = _claims.decode(payload)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _refused("the token is not valid") from None
        latest = self._now() + MARGIN
        if claims.iss != self._issuer or claims.aud != AUDIENCE or max(claims.iat, claims.nbf) > latest:
            raise _refused("the token is not valid")
        granted = claims.permissions.union(*(ROLES.get(role, frozenset()) for role in claims.roles))
        return Principal(claims.sub, claims.roles, granted, claims.exp, claims.sid)

    def _key(self, kid: object) -> Ed25519PublicKey:
        if kid not in self._keys and self._now() >= self._search_at:
            self._search_at = self._now() + RELOAD_EVERY
            self._reload()
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise _refused("the token is not valid")
        return key

    def _reload(self) -> None:
        """Learn new keys, and forget what was verified with one that is gone."""
        self._reload_at = self._now() + RELOAD_EVERY
        try:
            keys = self._load_keys()
        except (OSError, ValueError, KeyError) as error:
            log.error("the public keys can't be read: %s", error)
            return
        if self._keys.keys() - keys.keys():
            self._cache.clear()
        self._keys = keys


def _refused(detail: str) -> Failure:
    return Failure("unauthenticated", detail)
