"""A session: a login that goes on, its refresh tokens, and its end.

Promise: a refresh token is good once. Within a grace after a rotation its repeat gives the very same
pair, as long as nobody has used the successor; every other reuse ends the session, because two
parties have its tokens. The end is an event, and every verifier of tokens listens.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Event, Failure, anyone, authenticated, command, inject, query, services
from aidevos.contracts import users
from aidevos.contracts.authentication import (
    ACCOUNT_TYPE,
    SESSION_TYPE,
    Otp,
    RecoveryCodes,
    RefreshToken,
    SessionPage,
    TokenPair,
    TotpSecret,
    Whoami,
)
from aidevos.contracts.users import Password, User
from aidevos.security.audit import record
from aidevos.security.passwords import check_policy
from aidevos.settings import Settings

from .mint import Mint
from .rules import wrong_token


class SessionState(msgspec.Struct):
    """`number` counts rotations; the pair of that number was made at `issued_at`, in seconds since
    the epoch, for the roles that this version of the user had."""

    user: str = ""
    account: str = ""
    number: int = 0
    issued_at: float = 0.0
    roles: list[str] = []
    version: int = 0


class SessionEnded(Event):
    """The tokens of this session are dead."""

    user: str


class SessionDO(BaseDurableObject[SessionState], type=SESSION_TYPE, management="read_only"):
    """A login that goes on. It ends by logout, by disuse, or when a spent refresh token turns up."""

    settings: Settings = inject()
    mint: Mint = inject()

    @command(allow=services(), creates=True)
    async def open(self, user: str, account: str, roles: list[str], at: float) -> None:
        """Begin; the account makes the first pair of tokens."""
        self.state = SessionState(user=user, account=account, issued_at=at, roles=roles)

    @command(allow=anyone(), confidential=True)
    async def refresh(self, refresh_token: RefreshToken) -> TokenPair:
        """A new pair of tokens; the one shown is spent."""
        state = self.state
        number = self.mint.number(self.id, refresh_token)
        if not state.user or number is None or state.issued_at + self.settings.refresh_age <= self.now:
            raise wrong_token()
        repeated = number == state.number - 1 and self.now - state.issued_at <= self.settings.refresh_grace
        if number != state.number and not repeated:
            # This turn fails and leaves no trace, so another object sees to the end.
            await self.call(ACCOUNT_TYPE, state.account, "revoke_session", session=self.id)
            raise wrong_token()
        user = await self._active_user()
        if not repeated:
            state.number += 1
            state.issued_at = self.now
            state.roles, state.version = user.roles, user.version
            self.tell(ACCOUNT_TYPE, state.account, "touch", session=self.id, at=self.now)
        return self.mint.pair(self.id, state.number, user, state.roles, state.issued_at, state.version)

    @command(allow=authenticated())
    async def end(self) -> None:
        """End this session: its tokens are dead within moments."""
        if self.caller.is_service and not self.state.user:
            # It has ended already; a turn that only returned would make it anew.
            await self.delete()
            return
        self._check_owner()
        self.tell(ACCOUNT_TYPE, self.state.account, "forget", session=self.id)
        if not self.caller.is_service:
            action = "logout" if self.caller.session == self.id else "session.ended"
            record(self, action, target=self.state.user, session=self.id)
        self.emit(SessionEnded(user=self.state.user))
        await self.delete()

    @command(allow=authenticated())
    async def end_all(self) -> None:
        """End this session and every other one of its user."""
        self._check_owner()
        self.tell(ACCOUNT_TYPE, self.state.account, "end_sessions")
        record(self, "sessions.ended", target=self.state.user)

    @command(allow=authenticated(), confidential=True)
    async def change_password(self, current_password: Password, new_password: Password) -> None:
        """Take another password. Every other session of the user ends."""
        self._check_owner()
        user = await self._user()
        own = (user.username, user.email or "", (user.email or "").partition("@")[0], user.full_name)
        check_policy(new_password, self.settings.password_min_length, own, field="args.new_password")
        await self.call(
            ACCOUNT_TYPE,
            self.state.account,
            "change_password",
            current=current_password,
            new=new_password,
            session=self.id,
        )

    @command(allow=authenticated(), confidential=True)
    async def begin_totp(self, password: Password) -> TotpSecret:
        """A secret for an authenticator app; it counts when a code of it was confirmed."""
        self._check_owner()
        username = (await self._user()).username
        return msgspec.convert(await self._own("begin_totp", password=password, username=username), TotpSecret)

    @command(allow=authenticated(), confidential=True)
    async def confirm_totp(self, otp: Otp) -> RecoveryCodes:
        """Ask for a second factor at logins from now on. The recovery codes are shown this once."""
        self._check_owner()
        return msgspec.convert(await self._own("confirm_totp", otp=otp), RecoveryCodes)

    @command(allow=authenticated(), confidential=True)
    async def disable_totp(self, password: Password | None = None, otp: Otp | None = None) -> None:
        """Ask for no second factor any more; either the password or a code proves who asks."""
        self._check_owner()
        if (password is None) == (otp is None):
            raise Failure("invalid", "send either the password or a code", field="args.password")
        await self._own("disable_totp", password=password, otp=otp)

    @command(allow=authenticated(), confidential=True)
    async def renew_recovery_codes(self, password: Password) -> RecoveryCodes:
        """Other recovery codes; earlier ones are dead. They are shown this once."""
        self._check_owner()
        return msgspec.convert(await self._own("renew_recovery_codes", password=password), RecoveryCodes)

    @query(allow=services())
    async def is_open(self) -> bool:
        """Whether the session goes on."""
        return bool(self.state.user)

    @query(allow=authenticated())
    async def sessions(self) -> SessionPage:
        """All sessions of this session's user, the last used first."""
        self._check_owner()
        reply = await self.call(ACCOUNT_TYPE, self.state.account, "sessions", current=self.caller.session)
        return msgspec.convert(reply, SessionPage)

    @query(allow=authenticated())
    async def me(self) -> Whoami:
        """The session's user, and what the caller's token allows."""
        self._check_owner()
        user = await self._user()
        mfa = await self.call(ACCOUNT_TYPE, self.state.account, "has_mfa")
        return Whoami(user=user, permissions=sorted(self.caller.permissions), session=self.id, mfa=mfa)

    def _check_owner(self) -> None:
        if not self.state.user or not (
            self.caller.is_service or self.caller.acts_for(self.state.user, "sessions:self")
        ):
            raise Failure("not-found", "there is no such session")

    async def _own(self, method: str, **args: str | None) -> Any:
        """A call of this session's account that the security log ascribes to this session."""
        return await self.call(ACCOUNT_TYPE, self.state.account, method, session=self.id, **args)

    async def _active_user(self) -> User:
        try:
            user = await self._user()
        except Failure as failure:
            if failure.code != "not-found":
                raise
            raise wrong_token() from None
        if user.status != "active":
            raise wrong_token()
        return user

    async def _user(self) -> User:
        return msgspec.convert(await self.call(users.TYPE, self.state.user, "show"), User)
