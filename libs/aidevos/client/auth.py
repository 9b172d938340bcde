"""Logins, and the session whose tokens the client sends.

Promise: the access token is renewed shortly before it expires, or once the fleet refuses it, by one request for all
that wait for it. A refresh token works once, so this request goes on when those are cancelled, and the pair that it
brings is kept before anything else is sent.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.client.credentials import AGENT, find_token
from aidevos.client.entry import EntryPoint, Operation, given
from aidevos.client.errors import error_of
from aidevos.contracts import authentication, subjects, users
from aidevos.contracts.authentication import Session, TokenPair, TotpSecret, Whoami
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import User

# An access token is renewed when this share of its life has passed.
RENEWED_AFTER = 0.8
KeepTokens = Callable[[TokenPair], None]


class SessionTokens:
    """The tokens of a session, as the client's source of access tokens."""

    def __init__(self, entry: EntryPoint, pair: TokenPair, keep: KeepTokens) -> None:
        self.pair = pair
        self._entry = entry
        self._keep = keep
        self._renewal: asyncio.Task[None] | None = None
        self._renew_at = time.monotonic() + pair.expires_in * RENEWED_AFTER

    async def __call__(self) -> str:
        if time.monotonic() >= self._renew_at:
            await self.renew()
        return self.pair.access_token

    def expire(self, token: str) -> None:
        """Renew the access token before the next request, if it is still this one."""
        if token == self.pair.access_token:
            self._renew_at = 0.0

    async def renew(self) -> None:
        """Replace the tokens by new ones. Concurrent calls share one request."""
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
        await asyncio.shield(self._renewal)

    async def _renew(self) -> None:
        session = _session_of(self.pair.access_token)
        operation = Operation.on("POST", "/auth/refresh", authentication.SESSION_TYPE, session, "refresh")
        args = {"refresh_token": self.pair.refresh_token}
        self.pair = msgspec.convert(await self._entry.perform(operation, args, anonymous=True), TokenPair)
        self._renew_at = time.monotonic() + self.pair.expires_in * RENEWED_AFTER
        self._keep(self.pair)


class Auth:
    """The caller's account and session. Methods raise `ApiError`.

    After a login, all requests of the client carry the session's access token. `keep` is called with each new pair of
    tokens, so that a program can store it and continue the session later with `resume`.
    """

    def __init__(self, entry: EntryPoint, keep: KeepTokens = lambda pair: None) -> None:
        self._entry = entry
        self.keep = keep

    @property
    def session(self) -> TokenPair | None:
        """The tokens of the session, or None if the client has no login of its own."""
        source = self._entry.token
        return source.pair if isinstance(source, SessionTokens) else None

    async def register(self, username: str, email: str, password: str, full_name: str = "") -> User:
        """Register a user. Raises `Conflict` for a name that is taken, and `Invalid` for a weak password."""
        operation = Operation.on("POST", "/auth/register", users.TYPE, subjects.new_id(), "register")
        args = {"username": username, "email": email, "password": password, "full_name": full_name}
        return msgspec.convert(await self._entry.perform(operation, args, anonymous=True), User)

    async def login(self, username: str, password: str, *, otp: str | None = None) -> User:
        """Log in with a username or an e-mail address. `otp` is the code of the authenticator app.

        Raises `SecondFactorNeeded` if a code is needed, whose `challenge` goes to `verify`.
        """
        account = authentication.account_id(username)
        operation = Operation.on("POST", "/auth/login", authentication.ACCOUNT_TYPE, account, "login")
        return await self._open(operation, given(username=username, password=password, otp=otp))

    async def verify(self, challenge: str, *, otp: str | None = None, recovery_code: str | None = None) -> User:
        """Complete a login with one of the two codes of the second factor."""
        try:
            account = authentication.account_of(challenge)
        except Failure as failure:
            raise error_of(failure) from None
        operation = Operation.on("POST", "/auth/mfa/verify", authentication.ACCOUNT_TYPE, account, "verify")
        return await self._open(operation, given(challenge=challenge, otp=otp, recovery_code=recovery_code))

    def resume(self, pair: TokenPair) -> None:
        """Continue a session with tokens that `keep` or `session` gave."""
        self._entry.token = SessionTokens(self._entry, pair, lambda renewed: self.keep(renewed))

    async def refresh(self) -> TokenPair:
        """Renew the tokens now. The client does so by itself when it has to."""
        source = self._entry.token
        if not isinstance(source, SessionTokens):
            raise error_of(Failure("unauthenticated", "the client has no login of its own to refresh"))
        await source.renew()
        return source.pair

    async def logout(self, *, all: bool = False) -> None:
        """End the session, or all sessions of the user, and forget its tokens."""
        if all:
            operation = await self._on_own("POST", "/auth/logout?all=true", "end_all")
        else:
            operation = await self._on_own("POST", "/auth/logout", "end")
        await self._entry.perform(operation)
        self._entry.token = None

    async def me(self) -> Whoami:
        """Return the user, its permissions and its session."""
        return msgspec.convert(await self._entry.perform(await self._on_own("GET", "/auth/me", "me")), Whoami)

    async def sessions(self) -> list[Session]:
        """Return the user's open sessions."""
        page = await self._entry.perform(await self._on_own("GET", "/auth/sessions", "sessions"))
        return msgspec.convert(page["items"], list[Session])

    async def change_password(self, current: str, new: str, *, revoke_keys: bool = False) -> None:
        """Change the password, which ends every other session, and with `revoke_keys` the API keys and webhooks."""
        args = {"current_password": current, "new_password": new, "revoke_keys": revoke_keys}
        await self._entry.perform(await self._on_own("POST", "/auth/password", "change_password"), args)

    async def begin_totp(self, password: str, *, otp: str | None = None) -> TotpSecret:
        """Return a secret for an authenticator app. `otp` is a code of the second factor that it replaces, if any."""
        operation = await self._on_own("POST", "/auth/mfa/totp", "begin_totp")
        return msgspec.convert(await self._entry.perform(operation, given(password=password, otp=otp)), TotpSecret)

    async def confirm_totp(self, otp: str) -> list[str]:
        """Require a second factor at logins from now on, and return the recovery codes."""
        operation = await self._on_own("POST", "/auth/mfa/totp/confirm", "confirm_totp")
        return msgspec.convert((await self._entry.perform(operation, {"otp": otp}))["recovery_codes"], list[str])

    async def disable_totp(self, password: str, otp: str) -> None:
        """Stop requiring a second factor at logins."""
        operation = await self._on_own("DELETE", "/auth/mfa/totp", "disable_totp")
        await self._entry.perform(operation, {"password": password, "otp": otp})

    async def _open(self, operation: Operation, args: dict[str, Any]) -> User:
        device = args | {"device": AGENT}
        pair = msgspec.convert(await self._entry.perform(operation, args, over_nats=device, anonymous=True), TokenPair)
        self.resume(pair)
        self.keep(pair)
        return pair.user

    async def _on_own(self, verb: str, path: str, method: str) -> Operation:
        """Return an operation on the session of the client's token. Over HTTP, the gateway finds the session."""
        session = _session_of(await find_token(self._entry.token))
        return Operation.on(verb, path, authentication.SESSION_TYPE, session, method)


def _session_of(token: str) -> str:
    """Return the session that an access token names, or a name that no session has."""
    try:
        payload = token.split(".")[1]
        return str(msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sid"])
    except (IndexError, KeyError, ValueError, msgspec.DecodeError):
        return "none"
