"""Admission: the caller is authenticated and charged to its rate limit before a handler runs."""

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
    """The admission of requests to an operation."""

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        """Return the caller after charging the request to its rate limit.

        Raises `unauthenticated`, `forbidden` or `RateLimited`.
        """


class CredentialGuard:
    """Admits callers with a valid credential and, if one is named, `permission`.

    With `allow_anonymous`, callers without a credential are admitted as anonymous. A token may come in
    the header or in a cookie.
    """

    def __init__(
        self,
        admission: Admission,
        limiter: RateLimiter,
        cookies: Cookies,
        permission: str = "",
        *,
        allow_anonymous: bool = False,
    ) -> None:
        self._admission = admission
        self._limiter = limiter
        self._cookies = cookies
        self._permission = permission
        self._allow_anonymous = allow_anonymous

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        """Admit a caller like `Guard.admit`; an unauthenticated request is charged to its address."""
        address, group = address_of(scope), group_of(scope)
        by_cookie = self._unify(headers)
        try:
            principal = await resolve_when_ready(self._caller, self._authorization(headers), address)
            if by_cookie and scope["method"] not in SAFE_METHODS:
                self._cookies.check(headers, principal.session)
        except Failure as failure:
            if failure.code == "unauthenticated":
                scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, ANONYMOUS, address, group)
            raise
        scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, principal, address, group)
        if self._permission and not principal.has(self._permission):
            raise Failure("forbidden", f"this requires the permission {self._permission}")
        return principal

    def _unify(self, headers: dict[bytes, bytes]) -> bool:
        """Move a credential from a cookie or `X-Api-Key` to `Authorization`; return True if it was a cookie."""
        token = self._cookies.read(headers).get(self._cookies.access)
        key = headers.get(b"x-api-key")
        if (b"authorization" in headers) + bool(token) + (key is not None) > 1:
            raise Failure("bad-request", "send one credential: a token, an API key or cookies", field="Authorization")
        if token:
            headers[b"authorization"] = b"Bearer " + token.encode("latin-1")
        if key is not None:
            headers[b"authorization"] = b"ApiKey " + key
        return bool(token)

    def _authorization(self, headers: dict[bytes, bytes]) -> bytes | None:
        """Return the credential; empty if it is a session's whose access token has expired, and None if there is none.

        Browsers drop the cookie of a token that has expired. Without this, the user would be anonymous then.
        """
        found = headers.get(b"authorization")
        return b"" if found is None and self._cookies.refresh in self._cookies.read(headers) else found

    def _caller(self, authorization: bytes | None, address: str) -> Principal:
        if authorization is None and self._allow_anonymous:
            return ANONYMOUS
        return self._admission.authenticate(authorization.decode("latin-1") if authorization else None, address)


class AnonymousGuard:
    """Admits every request as anonymous, ignoring its credential, within the rate limit of its address."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, ANONYMOUS, address_of(scope), group_of(scope))
        return ANONYMOUS


class PublicGuard:
    """Admits every request as anonymous, without a rate limit: for responses that need only this process."""

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        return ANONYMOUS
