"""Authentication of callers by access token or API key.

A token carries its own claims. A key is looked up once per process, and the result is judged like a token's claims. So
a change of its owner's roles, or a deactivation, takes effect at once, as for tokens. A token whose revocation this
process may have missed (`NeedsLookup`) is looked up like a key.

Promise: a changed or revoked key is looked up again within moments, because its object publishes an event; if the event
is lost, within a minute. The same holds for tokens of `aidevos token`. A look-up that overlaps a change is discarded
and repeated. Concurrent uses of a credential share a look-up.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import access_tokens, subjects
from aidevos.contracts import api_keys as contract
from aidevos.contracts.authentication import CLOCK_MARGIN, SESSION_TYPE, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.durable.client.client import DurableObjectClient
from aidevos.security import api_keys
from aidevos.security.access import Claims, Key
from aidevos.security.delegations import DelegatedCall, DelegationVerifier
from aidevos.security.mandates import load_mandate
from aidevos.security.permissions import Principal
from aidevos.security.tokens import NeedsLookup, TokenVerifier

log = logging.getLogger(__name__)
# How a header that presents an API key begins, in lower case.
KEY_SCHEMES = ("apikey ", f"bearer {api_keys.PREFIX}")
_LONGEST_SCHEME = max(map(len, KEY_SCHEMES))
KEY_TTL = 60.0
LOOKUP_TIMEOUT = 5.0
REPORT_INTERVAL = 20.0
_grants = msgspec.json.Decoder(contract.KeyGrant)


class _Found(NamedTuple):
    """The result of a look-up: the claims, and the IDs of the objects whose change invalidates them."""

    claims: Claims
    ids: tuple[str, ...]


class Admission:
    """Authenticates the callers of one process.

    `client` looks up keys, sessions and users with the service's `credential`. `now` is in seconds since the epoch.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        client: DurableObjectClient,
        credential: Callable[[], str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._delegations = DelegationVerifier(verifier, now)
        self._client = client
        self._credential = credential
        self._now = now
        # The IDs whose change invalidates what was looked up for a header: that of the key that it presents and those
        # of the keys that made it, one by another, or that of the token's record.
        self._ids: dict[str, tuple[str, ...]] = {}
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self._invalidations = 0
        self._used_keys: set[str] = set()

    def authenticate(self, authorization: str | None, address: str) -> Principal:
        """Return the caller that presents this `Authorization` header from this IP address ("" if unknown).

        Raises `unauthenticated`, or `NotReady` if the credential has to be looked up first. The look-up may raise
        `unavailable`.
        """
        try:
            principal = self._verifier.verify(authorization)
        except NeedsLookup as found:
            look_up = partial(self._look_up_token, found.claims)
            raise NotReady(self._start_lookup(authorization or "", look_up)) from None
        except Failure:
            if authorization is None or not is_key(authorization):
                raise
            key = _parse_key(authorization)
            raise NotReady(self._start_lookup(authorization, partial(self._look_up_key, key))) from None
        if principal.key:
            _check_address(principal.addresses, address)
            self._used_keys.add(principal.key)
        return principal

    async def admit_stored(self, authorization: str | None, at: float) -> Principal:
        """Return the caller of a request that was stored at `at`, in seconds since the epoch.

        The credential must have been valid then. Since then, the session must not have ended, the key must not have
        been revoked, and the user must not have been deactivated. The caller has the roles of today. Raises
        `unauthenticated`, or `unavailable` if this can't be determined.
        """
        if authorization is not None and is_key(authorization):
            return await self._admit_stored_key(authorization, at)
        try:
            principal = self._verifier.verify(authorization, at)
        except NeedsLookup as found:
            return self._verifier.judge(await self._update_claims(found.claims))
        if principal.session and self._now() - at > TOKEN_LIFETIME - CLOCK_MARGIN:
            # This process may no longer remember what has happened since then.
            known = Claims(principal.subject, (), frozenset(), principal.expires_at, at, principal.session)
            return self._verifier.judge(await self._update_claims(known))
        return principal

    async def _update_claims(self, known: Claims) -> Claims:
        """Return a token's claims as they are now. Raises `unauthenticated` if it was revoked."""
        now = self._now()
        if known.record:
            grant = await self._resolve_token(known.record)
            fresh_until = min(now + KEY_TTL, known.expires_at)
            return known._replace(roles=tuple(grant.roles), version=grant.version, expires_at=fresh_until)
        if not await self._call(SESSION_TYPE, known.session, "is_open"):
            # Its further uses need no look-up.
            self._verifier.revoke(known.session, now)
            raise Failure("unauthenticated", "the session has ended")
        if not subjects.is_id(known.subject):
            # The token doesn't act as its user: it is good for its session alone, until the user has a second factor.
            return known._replace(issued_at=now)
        mandate = await load_mandate(self._call, known.subject)
        return known._replace(roles=mandate.roles, version=mandate.version, issued_at=now)

    async def _resolve_token(self, record: str) -> access_tokens.TokenGrant:
        try:
            return msgspec.convert(await self._call(access_tokens.TYPE, record, "resolve"), access_tokens.TokenGrant)
        except Failure as failure:
            if failure.code == "not-found":
                raise Failure("unauthenticated", "the token was revoked") from None
            raise

    async def _admit_stored_key(self, authorization: str, at: float) -> Principal:
        try:
            return await resolve_when_ready(self.authenticate, authorization, "")
        except Failure as failure:
            if failure.code != "unauthenticated":
                raise
        grant = await self._resolve_key(_parse_key(authorization), at)
        principal = self._verifier.judge(_claims_of(grant, self._now()))
        _check_address(principal.addresses, "")
        return principal

    async def _call(self, type: str, id: str, method: str) -> Any:
        return await getattr(self._client.object(type, id, authorization=self._credential()), method)()

    async def _resolve_key(self, key: api_keys.KeyText, at: float | None = None) -> contract.KeyGrant:
        payload = msgspec.json.encode({"hashed": key.hashed, "at": at})
        try:
            reply = await self._client.request(
                subjects.call(contract.TYPE, key.id, "resolve"),
                payload,
                authorization=self._credential(),
                deadline=LOOKUP_TIMEOUT,
            )
        except Failure as failure:
            if failure.code == "not-found":
                raise Failure("unauthenticated", "the API key is not valid") from None
            raise
        return _grants.decode(reply)

    def authenticate_delegation(self, authorization: str, call: DelegatedCall) -> Principal:
        """Return the principal on whose behalf a service makes this call. Raises `unauthenticated`."""
        return self._delegations.verify(authorization, call)

    def invalidate(self, id: str, at: float) -> None:
        """Look a key and the keys that it has made, or a token with a record, up again at their next use.

        It was changed at `at`, in seconds since the epoch.
        """
        self._invalidations += 1
        self._delegations.change_key(id, at)
        for authorization in [shown for shown, ids in self._ids.items() if id in ids]:
            self._forget(authorization)

    def forget_all(self) -> None:
        """Look everything that was looked up, up again at its next use."""
        self._invalidations += 1
        for authorization in tuple(self._ids):
            self._forget(authorization)

    def _forget(self, authorization: str) -> None:
        del self._ids[authorization]
        self._verifier.forget(authorization)

    async def report_usage(self) -> None:
        """Report used keys to their objects every `REPORT_INTERVAL` seconds, until cancelled."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            used, self._used_keys = self._used_keys, set()
            for key in used:
                subject = subjects.call(contract.TYPE, key, "used")
                payload = msgspec.json.encode({"at": self._now()})
                try:
                    await self._client.request(subject, payload, authorization=self._credential())
                except Failure as failure:
                    log.info("the use of an API key could not be recorded: %s", failure)

    def _start_lookup(self, authorization: str, look_up: Callable[[], Awaitable[_Found]]) -> asyncio.Task[None]:
        """Return the credential's running look-up, or start one."""
        lookup = self._lookups.get(authorization)
        if lookup is None:
            lookup = asyncio.create_task(self._accept(authorization, look_up))
            self._lookups[authorization] = lookup
            lookup.add_done_callback(partial(self._end_lookup, authorization))
        return lookup

    def _end_lookup(self, authorization: str, lookup: asyncio.Task[None]) -> None:
        del self._lookups[authorization]
        if not lookup.cancelled():
            # Callers that still wait get the failure. Without any, it is not worth a line in the log.
            lookup.exception()

    async def _look_up_key(self, key: api_keys.KeyText) -> _Found:
        now = self._now()
        grant = await self._resolve_key(key)
        return _Found(_claims_of(grant, now), (key.id, *grant.parents))

    async def _look_up_token(self, known: Claims) -> _Found:
        return _Found(await self._update_claims(known), (known.record,) if known.record else ())

    async def _accept(self, authorization: str, look_up: Callable[[], Awaitable[_Found]]) -> None:
        while True:
            before = self._invalidations
            found = await look_up()
            if self._invalidations == before:
                break
        self._verifier.accept(authorization, found.claims)
        if found.ids:
            self._ids[authorization] = found.ids
        if len(self._ids) > api_keys.KNOWN_LIMIT:
            self._forget(next(iter(self._ids)))
        # A refusal fails every waiting caller, and the credential is looked up again at its next use.
        self._verifier.verify(authorization)


def is_key(authorization: str) -> bool:
    """True if an `Authorization` header presents an API key."""
    return authorization[:_LONGEST_SCHEME].lower().startswith(KEY_SCHEMES)


def _parse_key(authorization: str) -> api_keys.KeyText:
    return api_keys.parse(authorization.partition(" ")[2].strip())


def _claims_of(grant: contract.KeyGrant, now: float) -> Claims:
    key = Key(
        grant.id,
        tuple(grant.scopes),
        tuple(grant.allowed_addresses),
        grant.limits,
        grant.project or "",
        tuple(grant.parent_limits),
    )
    fresh_until = min(now + KEY_TTL, grant.expires_at or math.inf)
    return Claims(grant.owner, tuple(grant.roles), frozenset(), fresh_until, now, version=grant.version, key=key)


def _check_address(networks: tuple[str, ...], address: str) -> None:
    """Raise `unauthenticated` if the key is restricted to other networks. Over NATS the address is unknown ("")."""
    if networks and not (address and any(ip_address(address) in _network(network) for network in networks)):
        raise Failure("unauthenticated", "the API key may not be used from this address")


@lru_cache(maxsize=10_000)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)
