"""Delegations: a service acts for a user in one call, and can do nothing else with it.

A delegation is a token that the fleet's key signs, of a type that no verifier of access tokens takes. It
names the user, the one subject, the payload's digest and the request ID. So whoever gets hold of it can
but repeat that very request, which changes nothing.

Promises: it allows what the user may do when it is used, judged as an access token is: a user who was
deactivated or has lost a role since it was issued acts no more than that. One for an API key allows no
more than the key's scopes do, and nothing once the key was changed or revoked. Nobody acts for a service by
one. It lives for `LIFETIME` seconds. The request ID is the service's, so there is one outcome under it, for
whomever the service acts.
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
from aidevos.security.access import MAX_DECISIONS, Claims, Key, Recent
from aidevos.security.permissions import Principal
from aidevos.security.tokens import Signing, TokenVerifier

SCHEME = "Delegation "
TYPE = "delegation+jwt"
AUDIENCE = "aidevos:delegation"
LIFETIME = 15.0
_SERVICE = "service"


class Mandate(NamedTuple):
    """For whom a service acts: the user as it was at `version`, where that is known. `permissions` come on
    top of what the roles allow; `scopes` are those of the API key `key` by which the user has asked for it."""

    user: str
    roles: tuple[str, ...]
    version: int | None = None
    permissions: tuple[str, ...] = ()
    key: str = ""
    scopes: tuple[str, ...] = ()
    project: str = ""


def claims_of(mandate: Mandate, now: float) -> Claims:
    """What a mandate says, for whoever judges it."""
    key = Key(mandate.key, mandate.scopes, (), project=mandate.project) if mandate.key else None
    return Claims(
        mandate.user, mandate.roles, frozenset(mandate.permissions), math.inf, now, version=mandate.version, key=key
    )


class Errand(NamedTuple):
    """The one call that a delegation is good for; `subject` is `do.<type>.<id>.<method>` or `query.<type>.<name>`."""

    subject: str
    payload: bytes
    request_id: str

    @property
    def digest(self) -> str:
        """What names the call, so that no two calls have the same."""
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


_payload = msgspec.json.Decoder(_Payload)


class Delegations:
    """Issues delegations to the service that calls itself `actor`, with the fleet's keys."""

    def __init__(self, keys: Signing, issuer: str, actor: str, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._actor = actor
        self._now = now

    def authorization(self, mandate: Mandate, errand: Errand) -> str:
        """The value of the header `Authorization` of the one call."""
        now = self._now()
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": mandate.user,
            "act": {"sub": f"service:{self._actor}"},
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(16),
            "errand": errand.digest,
            "roles": mandate.roles,
            "permissions": mandate.permissions,
            "ver": mandate.version,
            "key": mandate.key,
            "scopes": mandate.scopes,
            "project": mandate.project,
        }
        key = self._keys.at(now)
        return SCHEME + jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.id, "typ": TYPE})


class DelegationVerifier:
    """Turns a delegation into the user's `Principal`; `verifier` knows keys, roles and changes of access."""

    def __init__(self, verifier: TokenVerifier, now: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._now = now
        self._changed: Recent[None] = Recent(now, MAX_DECISIONS)

    def change_key(self, key: str, at: float) -> None:
        """Note that an API key was changed or revoked at this moment, in seconds since the epoch."""
        self._changed.put(key, at, None)

    def verify(self, authorization: str, errand: Errand) -> Principal:
        """The user; raises `unauthenticated`, also where the call is another one, and `unavailable` while
        custom roles aren't known."""
        payload = self._verifier.open(authorization[len(SCHEME) :], TYPE)
        try:
            said = _payload.decode(payload)
        except (ValueError, RecursionError):
            raise _refused() from None
        now = self._now()
        if said.iss != self._verifier.issuer or said.aud != AUDIENCE or said.iat > now + CLOCK_MARGIN:
            raise _refused()
        if said.exp <= now or said.errand != errand.digest or not said.sub:
            raise _refused()
        if said.key and said.iat <= self._changed_at(said.key):
            raise _refused()
        key = Key(said.key, said.scopes, (), project=said.project) if said.key else None
        claims = Claims(said.sub, said.roles, said.permissions, said.exp, said.iat, version=said.ver, key=key)
        principal = self._verifier.judge(claims)
        if _SERVICE in principal.roles:
            raise _refused()
        return msgspec.structs.replace(principal, actor=said.act.sub)

    def _changed_at(self, key: str) -> float:
        known = self._changed.known.get(key)
        return known[0] if known is not None else self._changed.forgotten


def is_delegation(authorization: str | None) -> bool:
    return authorization is not None and authorization.startswith(SCHEME)


def _refused() -> Failure:
    return Failure("unauthenticated", "the delegation is not valid for this call")
