"""Access tokens: JWTs signed with EdDSA (RFC 9068, hardened as RFC 8725 requires), the same at both entry points.

The gateway and every host verify each token themselves. A token must have exactly the header that the
issuer writes, so its content can't choose an algorithm or bring a key. A verified token is cached until
it expires or its key is dropped, and judged again whenever access or roles change. A token that can't
be verified is `unauthenticated`, with the same words for every reason except expiry, so that a forger
learns nothing.

A genuine token counts only as long as this process would know that it was revoked. If events were lost, a
session's token from before the gap is looked up once. A token with a record is looked up at its first use and
again every minute, because it may live longer than events are remembered.
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

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security.access import Access, Change, Claims
from aidevos.security.key_ring import SigningKey
from aidevos.security.permissions import Principal
from aidevos.security.service_keys import ServiceKey

# The key of a service is good for less than that of the issuer.
VerificationKey = Ed25519PublicKey | ServiceKey
log = logging.getLogger(__name__)
AUDIENCE = "aidevos"
TYPE = "at+jwt"
LIFETIME = TOKEN_LIFETIME
TOKEN_LIMIT = 8192
CACHE_LIMIT = 20_000
# Seconds between two looks at the keys while nothing new is verified.
RELOAD_EVERY = 1.0
_Text = Annotated[str, Meta(min_length=1)]
_Moment = Annotated[float, Meta(ge=0, le=2**53)]


class _Payload(msgspec.Struct, kw_only=True):
    """The claims that the issuer writes, with times in seconds since the epoch. Other claims are ignored."""

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
    ver: int | None = None
    rec: str = ""


_payload = msgspec.json.Decoder(_Payload)


class NeedsLookup(Exception):
    """Raised for a genuine token that may have been revoked: its session or record must be looked up first."""

    def __init__(self, claims: Claims) -> None:
        super().__init__()
        self.claims = claims


class Signing(Protocol):
    """The source of an issuer's keys."""

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
        version: int | None = None,
        record: str = "",
    ) -> str:
        """Return a token for the subject.

        `permissions` are granted in addition to those of the roles. `lifetime` is in seconds. The same
        `issued_at` and `id` give the same token again. `version` is the version of the user that has
        these roles. `record` is the ID of the token's record, if it has one.
        """
        now = int(self._now() if issued_at is None else issued_at)
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": AUDIENCE,
            "iat": now,
            "exp": now + int(lifetime),
            "jti": id or record or secrets.token_urlsafe(16),
            "roles": list(roles),
            "permissions": list(permissions),
        }
        if session:
            claims["sid"] = session
        if version is not None:
            claims["ver"] = version
        if record:
            claims["rec"] = record
        key = self.keys.at(now)
        return jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.id, "typ": TYPE})


class TokenVerifier:
    """Turns the `Authorization` header of a request into a `Principal`."""

    def __init__(
        self,
        load_keys: Callable[[], Mapping[str, VerificationKey]],
        issuer: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._load_keys = load_keys
        self._keys = load_keys()
        self.issuer = issuer
        self._now = now
        self._reload_at = now() + RELOAD_EVERY
        self._access = Access(now)
        self.known_since = 0.0
        self._ended = self._access.ended_sessions
        self._cache: dict[str, Principal] = {}
        self._verified: dict[str, Claims] = {}

    def revoke(self, session: str, at: float) -> None:
        """Refuse the tokens of a session that ended at this time, until the last of them has expired."""
        if self._access.end_session(session, at):
            self._cache.clear()

    def change_access(self, subject: str, change: Change) -> None:
        """Judge a user's earlier tokens by the user's access after this change."""
        self._access.change(subject, change)
        self._cache.clear()

    def forget_before(self, known_since: float) -> bool:
        """Have the tokens of sessions that were issued before this time looked up, each once.

        The time is in seconds since the epoch. Revocations from before it may be unknown. Return True if that is news.
        """
        is_news = known_since > self.known_since
        if is_news:
            self.known_since = known_since
            self._verified.clear()
            self._cache.clear()
        return is_news

    def set_roles(self, roles: Mapping[str, frozenset[str]]) -> None:
        """Set the custom roles: all of them, by name, with their permissions from now on."""
        if self._access.set_roles(roles):
            self._cache.clear()

    def accept(self, authorization: str, claims: Claims) -> None:
        """Accept the claims that were looked up for a credential, until they expire."""
        self._make_room()
        self._verified[authorization] = claims
        self._cache.pop(authorization, None)

    def forget(self, authorization: str) -> None:
        """Forget a credential, which must then be verified again."""
        self._verified.pop(authorization, None)
        self._cache.pop(authorization, None)

    def verify(self, authorization: str | None, at: float | None = None) -> Principal:
        """Return the caller. Raises `unauthenticated`, or `unavailable` while custom roles aren't known.

        Raises `NeedsLookup` if the token's claims must be looked up and given to `accept` first. The token
        must be valid now, or have been valid `at` a past time; all decisions since then apply.
        """
        now = self._now() if at is None else at
        self._follow_keys()
        authorization = authorization or ""
        principal = self._cache.get(authorization)
        if principal is not None and principal.expires_at <= now:
            # Claims that were looked up may have expired before their token.
            self.forget(authorization)
            principal = None
        if principal is None:
            principal = self._judge(authorization, now)
        if principal.session and principal.session in self._ended:
            raise _refused("the session has ended")
        return principal

    def open(self, token: str, type: str) -> tuple[bytes, VerificationKey]:
        """Return the payload of a token of this type, and the key that signed it. Raises `unauthenticated`."""
        self._reload()
        if len(token) > TOKEN_LIMIT:
            raise _refused("the token is not valid")
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            if header != {"alg": "EdDSA", "typ": type, "kid": kid}:
                raise ValueError("header")
            key = self._key(kid)
            public = key.public if isinstance(key, ServiceKey) else key
            payload: bytes = jwt.PyJWS().decode(token, public, algorithms=["EdDSA"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _refused("the token is not valid") from None
        return payload, key

    def judge(self, claims: Claims) -> Principal:
        """Return the current principal of these claims, by all known changes since."""
        return self._access.judge(claims)

    def _follow_keys(self) -> None:
        if self._now() >= self._reload_at:
            self._reload()

    def _judge(self, authorization: str, now: float) -> Principal:
        claims = self._verified.get(authorization)
        if claims is None or claims.expires_at <= now:
            self.forget(authorization)
            claims = self._decode(authorization)
            self._check_claims(claims, now)
            self._make_room()
            self._verified[authorization] = claims
        principal = self._cache[authorization] = self._access.judge(claims)
        return principal

    def _check_claims(self, claims: Claims, now: float) -> None:
        if claims.expires_at <= now:
            raise _refused("the token has expired")
        if claims.session in self._ended:
            raise _refused("the session has ended")
        if claims.record or (claims.session and claims.issued_at <= self.known_since + CLOCK_MARGIN):
            raise NeedsLookup(claims)

    def _make_room(self) -> None:
        if len(self._verified) >= CACHE_LIMIT:
            self._verified.clear()
            self._cache.clear()

    def _decode(self, authorization: str) -> Claims:
        if not authorization:
            raise _refused("send the header Authorization: Bearer <token>")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LIMIT:
            raise _refused("the Authorization header must be: Bearer <token>")
        try:
            encoded, key = self.open(token, TYPE)
            payload = _payload.decode(encoded)
        except (ValueError, RecursionError):
            raise _refused("the token is not valid") from None
        latest = self._now() + CLOCK_MARGIN
        if payload.iss != self.issuer or payload.aud != AUDIENCE or max(payload.iat, payload.nbf) > latest:
            raise _refused("the token is not valid")
        if isinstance(key, ServiceKey) and not key.may_issue(payload.sub, payload.roles, payload.permissions):
            raise _refused("the token is not valid")
        return Claims(
            payload.sub,
            payload.roles,
            payload.permissions,
            payload.exp,
            payload.iat,
            payload.sid,
            payload.ver,
            record=payload.rec,
        )

    def _key(self, kid: object) -> VerificationKey:
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise _refused("the token is not valid")
        return key

    def _reload(self) -> None:
        """Load new keys, and forget everything that was verified with a removed one."""
        self._reload_at = self._now() + RELOAD_EVERY
        try:
            keys = self._load_keys()
        except (OSError, ValueError, KeyError) as error:
            log.error("can't read the public keys: %s", error)
            return
        if self._keys.keys() - keys.keys():
            self._cache.clear()
            self._verified.clear()
        self._keys = keys


def _refused(detail: str) -> Failure:
    return Failure("unauthenticated", detail)
