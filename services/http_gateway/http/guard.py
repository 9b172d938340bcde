"""Who may pass: every request's caller is found out and its rate limit spent before a handler runs."""

from __future__ import annotations

from typing import Protocol

from starlette.types import Scope

from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.security.permissions import ANONYMOUS, Principal

from .cookies import SAFE_METHODS, Cookies
from .request import address_of, group_of
from .responses import RATE_LIMIT


class Guard(Protocol):
    """Admits requests to an operation."""

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        """Return the caller, whose request is spent from its rate limit; raises `unauthenticated`, `forbidden`
        or `RateLimited`."""


class CredentialGuard:
    """Admits callers with a valid credential that carries `permission`, if one is named. With `strangers`, callers
    without a credential are admitted as anonymous. A token comes in the header or in a cookie."""

    def __init__(
        self,
        admission: Admission,
        limiter: RateLimiter,
        cookies: Cookies,
        permission: str = "",
        *,
        strangers: bool = False,
    ) -> None:
        self._admission = admission
        self._limiter = limiter
        self._cookies = cookies
        self._permission = permission
        self._strangers = strangers

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        """As `Guard.admit`; the request of an unknown caller is spent from the limit of its address."""
        address, group = address_of(scope), group_of(scope)
        by_cookie = self._unify(headers)
        try:
            principal = await resolve_when_ready(self._caller, headers.get(b"authorization"), address)
            if by_cookie and scope["method"] not in SAFE_METHODS:
                self._cookies.check(headers, principal.session)
        except Failure as failure:
            if failure.code == "unauthenticated":
                scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, ANONYMOUS, address, group)
            raise
        scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, principal, address, group)
        if self._permission and not principal.has(self._permission):
            raise Failure("forbidden", f"this needs the permission {self._permission}")
        return principal

    def _unify(self, headers: dict[bytes, bytes]) -> bool:
        """Put a credential from a cookie or from `X-Api-Key` into `Authorization`; True if it was a cookie."""
        token = self._cookies.of(headers).get(self._cookies.access)
        key = headers.get(b"x-api-key")
        if (b"authorization" in headers) + bool(token) + (key is not None) > 1:
            raise Failure("bad-request", "send one credential: a token, an API key or cookies", field="Authorization")
        if token:
            headers[b"authorization"] = b"Bearer " + token.encode("latin-1")
        if key is not None:
            headers[b"authorization"] = b"ApiKey " + key
        return bool(token)

    def _caller(self, authorization: bytes | None, address: str) -> Principal:
        if authorization is None and self._strangers:
            return ANONYMOUS
        return self._admission.authenticate(None if authorization is None else authorization.decode("latin-1"), address)


class AnonymousGuard:
    """Admits every request as anonymous, whatever credential it carries, within the rate limit of its address."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, ANONYMOUS, address_of(scope), group_of(scope))
        return ANONYMOUS


class PublicGuard:
    """Admits every request as anonymous, without a rate limit: for what is served from this process alone."""

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        return ANONYMOUS
