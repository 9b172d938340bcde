"""Who a caller is, by token or by API key.

A token says everything itself. A key is looked up, once by each process, and what was found is judged
like a token's claims: so its owner's roles and deactivation count at once, as for tokens.

Promises: a key that was changed or revoked is looked up anew within moments, since its object says so in
an event; without one, within a minute. A look-up that a change has overtaken doesn't count.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import msgspec

from aidevos.contracts import api_keys as contract
from aidevos.contracts import subjects
from aidevos.contracts.authentication import CLOCK_MARGIN, SESSION_TYPE, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.durable.access.resolving import NotReady, resolve_when_ready
from aidevos.durable.client.client import DurableObjectClient
from aidevos.security import api_keys
from aidevos.security.access import Claims, Key
from aidevos.security.delegations import DelegationVerifier, Errand
from aidevos.security.mandates import mandate_of
from aidevos.security.permissions import Principal
from aidevos.security.tokens import TokenVerifier

log = logging.getLogger(__name__)
SCHEME = "apikey "
FRESH_FOR = 60.0
LOOK_UP_WITHIN = 5.0
REPORT_EVERY = 20.0
_grants = msgspec.json.Decoder(contract.KeyGrant)


class Admission:
    """`client` calls as a service, with this credential; `now` is in seconds since the epoch."""

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
        self._shown: dict[str, str] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._changes = 0
        self._used: set[str] = set()

    def caller(self, authorization: str | None, address: str) -> Principal:
        """The caller, who came from this address. Raises `unauthenticated`, and `NotReady` for a key that has to be
        looked up, which may end in `unavailable`."""
        try:
            principal = self._verifier.verify(authorization)
        except Failure:
            if authorization is None or not is_key(authorization):
                raise
            raise NotReady(self._looked_up(authorization)) from None
        if principal.key:
            _check_address(principal.addresses, address)
            self._used.add(principal.key)
        return principal

    async def admit_stored(self, authorization: str | None, at: float) -> Principal:
        """The caller of what was stored at this moment, in seconds since the epoch: the credential must have
        been valid then, and nobody may have ended the session, revoked the key or deactivated the user since
        then. Roles are today's. Raises `unauthenticated`, and `unavailable` when that can't be found out."""
        if authorization is not None and is_key(authorization):
            return await self._admit_stored_key(authorization, at)
        principal = self._verifier.verify(authorization, at)
        if principal.session and self._now() - at > TOKEN_LIFETIME - CLOCK_MARGIN:
            # It may be longer ago than decisions are remembered here.
            return await self._judge_today(principal)
        return principal

    async def _judge_today(self, known: Principal) -> Principal:
        if not await self._ask(SESSION_TYPE, known.session, "is_open"):
            raise Failure("unauthenticated", "the session has ended")
        mandate = await mandate_of(self._ask, known.subject)
        now = self._now()
        claims = Claims(
            mandate.user, mandate.roles, frozenset(), known.expires_at, now, known.session, version=mandate.version
        )
        return self._verifier.judge(claims)

    async def _admit_stored_key(self, authorization: str, at: float) -> Principal:
        try:
            return await resolve_when_ready(self.caller, authorization, "")
        except Failure as failure:
            if failure.code != "unauthenticated":
                raise
        grant = await self._resolve(_key(authorization), at)
        principal = self._verifier.judge(_claims(grant, self._now()))
        _check_address(principal.addresses, "")
        return principal

    async def _ask(self, type: str, id: str, method: str) -> Any:
        return await self._client.call(type, id, method, authorization=self._credential())

    async def _resolve(self, key: api_keys.KeyText, at: float | None = None) -> contract.KeyGrant:
        payload = msgspec.json.encode({"hashed": key.hashed, "at": at})
        try:
            reply = await self._client.request(
                subjects.call(contract.TYPE, key.id, "resolve"),
                payload,
                authorization=self._credential(),
                deadline=LOOK_UP_WITHIN,
            )
        except Failure as failure:
            if failure.code == "not-found":
                raise Failure("unauthenticated", "the API key is not valid") from None
            raise
        return _grants.decode(reply)

    def delegated(self, authorization: str, errand: Errand) -> Principal:
        """For whom a service makes this call; raises `unauthenticated`."""
        return self._delegations.verify(authorization, errand)

    def change(self, key: str, at: float) -> None:
        """Look a key up anew at its next use: it was changed at this moment, in seconds since the epoch."""
        self._changes += 1
        self._delegations.change_key(key, at)
        for authorization in [shown for shown, id in self._shown.items() if id == key]:
            del self._shown[authorization]
            self._verifier.forget(authorization)

    async def report(self) -> None:
        """Tell the keys that they were used, now and then, until cancelled."""
        while True:
            await asyncio.sleep(REPORT_EVERY)
            used, self._used = self._used, set()
            for key in used:
                subject = subjects.call(contract.TYPE, key, "used")
                payload = msgspec.json.encode({"at": self._now()})
                try:
                    await self._client.request(subject, payload, authorization=self._credential())
                except Failure as failure:
                    log.info("the use of an API key could not be noted: %s", failure)

    def _looked_up(self, authorization: str) -> asyncio.Task[None]:
        """The one look-up of a key that is under way; raises `unauthenticated` for what can't be a key."""
        looking = self._looking.get(authorization)
        if looking is None:
            looking = asyncio.create_task(self._look_up(authorization, _key(authorization)))
            self._looking[authorization] = looking
            looking.add_done_callback(partial(self._end_look_up, authorization))
        return looking

    def _end_look_up(self, authorization: str, looking: asyncio.Task[None]) -> None:
        del self._looking[authorization]
        if not looking.cancelled():
            # Whoever still waits is told of a failure; where nobody does, it isn't worth a line in the log.
            looking.exception()

    async def _look_up(self, authorization: str, key: api_keys.KeyText) -> None:
        while True:
            before, now = self._changes, self._now()
            grant = await self._resolve(key)
            if self._changes == before:
                break
        self._verifier.accept(authorization, _claims(grant, now))
        self._shown[authorization] = key.id
        if len(self._shown) > api_keys.KNOWN_LIMIT:
            self._verifier.forget(next(iter(self._shown)))
            del self._shown[next(iter(self._shown))]
        # What is refused now is refused to all who wait, and looked up anew at its next use.
        self._verifier.verify(authorization)


def is_key(authorization: str) -> bool:
    return authorization[: len(SCHEME)].lower() == SCHEME


def _key(authorization: str) -> api_keys.KeyText:
    return api_keys.parse(authorization[len(SCHEME) :].strip())


def _claims(grant: contract.KeyGrant, now: float) -> Claims:
    key = Key(grant.id, tuple(grant.scopes), tuple(grant.allowed_addresses), grant.limits, grant.project or "")
    fresh_until = min(now + FRESH_FOR, grant.expires_at or math.inf)
    return Claims(grant.owner, tuple(grant.roles), frozenset(), fresh_until, now, version=grant.version, key=key)


def _check_address(networks: tuple[str, ...], address: str) -> None:
    """Raises `unauthenticated` for a key that may not be used from there; over NATS no address is known."""
    if networks and not (address and any(ip_address(address) in _network(network) for network in networks)):
        raise Failure("unauthenticated", "the API key may not be used from this address")


@lru_cache(maxsize=10_000)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)
