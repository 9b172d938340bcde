"""Delegations: tokens with which a service makes exactly one call on behalf of a user.

A delegation is signed with the fleet's key and has a type that no verifier of access tokens accepts. It
names the user, the subject, the payload's digest and the request ID. Anyone who steals it can only
repeat that very request, which changes nothing.

Promises: a delegation grants the user's permissions at the time of use, judged like an access token. A
user who was deactivated or lost a role in between acts no more than that. A delegation for an API key
is limited by the key's scopes, and invalid once the key, or one of the keys that made it, was changed or
revoked. It can't act for a service. It lives for `LIFETIME` seconds. The request ID belongs to the
service, so one ID has one outcome, whichever user the service acts for.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import jwt
import msgspec

from aidevos.contracts.authentication import CLOCK_MARGIN
from aidevos.contracts.errors import Failure
from aidevos.security.access import MAX_DECISIONS, Claims, Key, RecentDecisions
from aidevos.security.permissions import Principal
from aidevos.security.service_keys import ServiceKey
from aidevos.security.tokens import Signing, TokenVerifier

SCHEME = "Delegation "
TYPE = "delegation+jwt"
AUDIENCE = "aidevos:delegation"
LIFETIME = 15.0
_SERVICE = "service"


class Mandate(NamedTuple):
    """The user for whom a service acts, with the user's `version` if it is known.

    `permissions` are granted in addition to those of the roles. `scopes` belong to the API key `key`,
    with which the user made the request. `key_parents` are the keys that made that key, one by another.
    """

    user: str
    roles: tuple[str, ...]
    version: int | None = None
    permissions: tuple[str, ...] = ()
    key: str = ""
    scopes: tuple[str, ...] = ()
    project: str = ""
    key_parents: tuple[str, ...] = ()


def claims_of(mandate: Mandate, now: float) -> Claims:
    """Return the claims of a mandate, as issued at `now` in seconds since the epoch. They never expire."""
    key = Key(mandate.key, mandate.scopes, (), project=mandate.project) if mandate.key else None
    return Claims(
        mandate.user, mandate.roles, frozenset(mandate.permissions), math.inf, now, version=mandate.version, key=key
    )


class DelegatedCall(NamedTuple):
    """The one call that a delegation allows; `subject` is `do.<type>.<id>.<method>` or `query.<type>.<name>`."""

    subject: str
    payload: bytes
    request_id: str

    @property
    def digest(self) -> str:
        """The hash of everything that identifies the call."""
        parts = (self.subject.encode(), self.request_id.encode(), hashlib.sha256(self.payload).digest())
        return hashlib.sha256(msgspec.msgpack.encode(parts)).hexdigest()


class _Actor(msgspec.Struct):
    sub: str


class _Payload(msgspec.Struct, kw_only=True):
    iss: str
    aud: str
    sub: str
    act: _Actor
    iat: float
    exp: float
    errand: str
    roles: tuple[str, ...]
    permissions: frozenset[str]
    ver: int | None
    key: str
    scopes: tuple[str, ...]
    project: str
    key_parents: tuple[str, ...] = ()


_payload = msgspec.json.Decoder(_Payload)


class Delegations:
    """Issues delegations to the service named `actor`, signed with the fleet's keys."""

    def __init__(self, keys: Signing, issuer: str, actor: str, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._actor = actor
        self._now = now

    def authorization(self, mandate: Mandate, call: DelegatedCall) -> str:
        """Return the value of the `Authorization` header for the one call."""
        now = self._now()
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": mandate.user,
            "act": {"sub": f"service:{self._actor}"},
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(16),
            "errand": call.digest,
            "roles": mandate.roles,
            "permissions": mandate.permissions,
            "ver": mandate.version,
            "key": mandate.key,
            "scopes": mandate.scopes,
            "project": mandate.project,
            "key_parents": mandate.key_parents,
        }
        key = self._keys.at(now)
        return SCHEME + jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.id, "typ": TYPE})


class DelegationVerifier:
    """Turns a delegation into the user's `Principal`; `verifier` knows keys, roles and changes of access."""

    def __init__(self, verifier: TokenVerifier, now: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._now = now
        self._changed: RecentDecisions[None] = RecentDecisions(now, MAX_DECISIONS)

    def change_key(self, key: str, at: float) -> None:
        """Record that an API key was changed or revoked at this time, in seconds since the epoch."""
        self._changed.put(key, at, None)

    def verify(self, authorization: str, call: DelegatedCall) -> Principal:
        """Return the user on whose behalf the service makes this call.

        Raises `unauthenticated`, also if the delegation is for another call, and `unavailable` while
        custom roles aren't known.
        """
        encoded, signer = self._verifier.open(authorization[len(SCHEME) :], TYPE)
        try:
            payload = _payload.decode(encoded)
        except (ValueError, RecursionError):
            raise _refused() from None
        if isinstance(signer, ServiceKey) and not signer.may_delegate(payload.act.sub):
            raise _refused()
        now = self._now()
        if payload.iss != self._verifier.issuer or payload.aud != AUDIENCE or payload.iat > now + CLOCK_MARGIN:
            raise _refused()
        if payload.iat <= self._verifier.known_since:
            raise Failure("unavailable", "a change of the user's access may have been lost since; try again")
        if payload.exp <= now or payload.errand != call.digest or not payload.sub:
            raise _refused()
        if payload.key and payload.iat <= max(map(self._changed_at, (payload.key, *payload.key_parents))):
            raise _refused()
        key = Key(payload.key, payload.scopes, (), project=payload.project) if payload.key else None
        claims = Claims(
            payload.sub, payload.roles, payload.permissions, payload.exp, payload.iat, version=payload.ver, key=key
        )
        principal = self._verifier.judge(claims)
        if _SERVICE in principal.roles:
            raise _refused()
        return msgspec.structs.replace(principal, actor=payload.act.sub)

    def _changed_at(self, key: str) -> float:
        known = self._changed.known.get(key)
        return known[0] if known is not None else self._changed.forgotten


def is_delegation(authorization: str | None) -> bool:
    """True if an `Authorization` header presents a delegation."""
    return authorization is not None and authorization.startswith(SCHEME)


def _refused() -> Failure:
    return Failure("unauthenticated", "the delegation is not valid for this call")
