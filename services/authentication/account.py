"""A login name: who has it, the password's hash, and the sessions that were opened with it.

A username's object holds the hash and the sessions; an e-mail address' object leads to it. A name
is reserved for a user before the user exists. Whoever wants it next asks that user's object whether
it came to be: so a registration that died on its way keeps no name, and no clock decides.
"""

from __future__ import annotations

import hashlib
from typing import NewType

import msgspec

from aidevos import Failure, anyone, command, inject, new_id, query, services
from aidevos.contracts import users
from aidevos.contracts.authentication import (
    ACCOUNT_TYPE,
    SESSION_TYPE,
    Challenge,
    Device,
    LoginName,
    Otp,
    RecoveryCode,
    SessionPage,
    TokenPair,
    account_id,
)
from aidevos.contracts.confirmation import CONFIRMATION_TYPE
from aidevos.contracts.users import Password, User
from aidevos.security.audit import record
from aidevos.security.throttle import AddressThrottle

from .mint import Mint
from .proofs import AccountState
from .rules import SessionEntry, shown, superfluous, wrong_login
from .second_factor import SecondFactorMethods

Logins = NewType("Logins", AddressThrottle)


class AuthenticationDO(SecondFactorMethods, type=ACCOUNT_TYPE, management="read_only"):
    """A username or an e-mail address, and what it takes to log in with it."""

    mint: Mint = inject()
    logins: Logins = inject()

    @command(allow=anyone(), confidential=True)
    async def login(
        self, username: LoginName, password: Password, otp: Otp | None = None, device: Device = ""
    ) -> TokenPair:
        """Open a session. Whatever is wrong, the answer is the same and takes as long. Where a second
        factor is needed and not given, `mfa-required` has a challenge for `verify`."""
        if account_id(username) != self.id:
            raise Failure("invalid", "this is the object of another name", field="args.username")
        self.logins.admit(self.client_address, self.now)
        if "@" not in username:
            return await self._sign_in(password, otp, device)
        # An unknown address takes the same way, to an object that has no password.
        primary = self.state.primary or hashlib.sha256(self.id.encode()).hexdigest()
        reply = await self.call(ACCOUNT_TYPE, primary, "sign_in", password=password, otp=otp, device=device)
        return msgspec.convert(reply, TokenPair)

    @command(allow=services(), confidential=True)
    async def sign_in(self, password: Password, device: Device, otp: Otp | None = None) -> TokenPair:
        """A login by the e-mail address."""
        return await self._sign_in(password, otp, device)

    @command(allow=anyone(), confidential=True)
    async def verify(
        self,
        challenge: Challenge,
        otp: Otp | None = None,
        recovery_code: RecoveryCode | None = None,
        device: Device = "",
    ) -> TokenPair:
        """Complete a login by its second factor, on the same device."""
        code = otp or recovery_code
        if code is None or (otp and recovery_code):
            raise Failure("invalid", "send either otp or recovery_code", field="args.otp")
        self._spend_challenge(challenge, device, code)
        await self._check_code(otp, recovery_code, "login")
        if recovery_code is not None:
            self._record("mfa.recovery_code_used")
        return await self._open(await self._active_user(), device)

    @command(allow=services(), confidential=True)
    async def reserve(self, user: str, password: Password) -> None:
        """Keep this username for a user who is about to be, with this password."""
        await self._check_free(user)
        hashed = await self.passwords.hash(password)
        self._take_over(user)
        self.state = AccountState(user=user, hashed=hashed)

    @command(allow=services())
    async def reserve_email(self, user: str, primary: str) -> None:
        """Keep this e-mail address for a user who is about to be."""
        await self._check_free(user)
        self._take_over(user)
        self.state = AccountState(user=user, primary=primary)

    @command(allow=services())
    async def free_email(self, user: str) -> None:
        """Give this e-mail address up, unless the user has it again by now."""
        if self.state.user != user or await self._is_held(user):
            return
        await self.delete()

    @query(allow=services())
    async def holder(self) -> str:
        """The user who has this name or is about to; empty when nobody has."""
        return self.state.user

    @command(allow=services())
    async def release(self, user: str) -> None:
        """Give the name up, if it is this user's."""
        if self.state.user == user:
            for session in self.state.sessions:
                self.tell(SESSION_TYPE, session, "end")
            await self.delete()

    @command(allow=services(), confidential=True)
    async def change_password(self, current: Password, new: Password, session: str) -> None:
        """Take another password, end the sessions but this one, and void links from before."""
        user = self.state.user
        await self._check_password(current, "password.changed", actor=user, session=session)
        record(self, "password.changed", actor=user, target=user, session=session)
        self.state.hashed = await self.passwords.hash(new)
        self.tell(CONFIRMATION_TYPE, user, "void_links")
        for other in [other for other in self.state.sessions if other != session]:
            del self.state.sessions[other]
            self.tell(SESSION_TYPE, other, "end")

    @command(allow=services(), confidential=True)
    async def reset_password(self, user: str, new: Password) -> None:
        """Take another password of this user, who has proved to be it, and end every session."""
        if self.state.user != user:
            raise Failure("not-found", "there is no such account")
        self.state.hashed = await self.passwords.hash(new)
        self._failures.of("").clear()
        self._trust_address()
        self._end_sessions()

    @command(allow=services(), confidential=True)
    async def check_password(self, password: Password, action: str, session: str) -> None:
        """Raises `unauthenticated` for another password; it counts as a failed login, and the security log
        gets it as a failure of this action."""
        await self._check_password(password, action, actor=self.state.user, session=session)

    @query(allow=services())
    async def sessions(self, current: str = "") -> SessionPage:
        """The sessions that go on, the last used first; `current` is the asking one."""
        entries = self.state.sessions
        last_used_first = sorted(entries, key=lambda id: entries[id].last_used_at, reverse=True)
        return SessionPage(items=[shown(id, entries[id], current) for id in last_used_first])

    @command(allow=services())
    async def touch(self, session: str, at: float) -> None:
        """Note that a session was used."""
        if not await self._is_free() and session in self.state.sessions:
            self.state.sessions[session].last_used_at = at

    @command(allow=services())
    async def forget(self, session: str) -> None:
        """Note that a session has ended."""
        if not await self._is_free():
            self.state.sessions.pop(session, None)

    @command(allow=services())
    async def end_session(self, session: str) -> None:
        """End a session that this account knows."""
        if not await self._is_free() and self.state.sessions.pop(session, None) is not None:
            self.tell(SESSION_TYPE, session, "end")

    @command(allow=services())
    async def revoke_session(self, session: str) -> None:
        """End a session of which a spent refresh token was shown."""
        if not await self._is_free() and self.state.sessions.pop(session, None) is not None:
            self.tell(SESSION_TYPE, session, "end")
            reason = "a spent refresh token was shown"
            record(self, "session.revoked", actor="", target=self.state.user, reason=reason, session=session)

    @command(allow=services())
    async def end_sessions(self) -> None:
        """End every session."""
        if not await self._is_free():
            self._end_sessions()

    def _end_sessions(self) -> None:
        for session in self.state.sessions:
            self.tell(SESSION_TYPE, session, "end")
        self.state.sessions = {}

    async def _sign_in(self, password: str, otp: str | None, device: str) -> TokenPair:
        await self._check_password(password, "login")
        user = await self._active_user()
        await self._renew_hash(password)
        if self.state.mfa.seed:
            if otp is None:
                raise self._challenge(device)
            await self._check_code(otp, None, "login")
        return await self._open(user, device)

    async def _open(self, user: User, device: str) -> TokenPair:
        self._throttle().clear()
        self._trust_address()
        self.state.hashed = self._renewed.pop(self.state.hashed, self.state.hashed)
        for session in superfluous(self.state.sessions, self.now, self.settings.refresh_age):
            del self.state.sessions[session]
            self.tell(SESSION_TYPE, session, "end")
        session = new_id()
        # If this turn fails now, nobody has the session's tokens.
        await self.call(SESSION_TYPE, session, "open", user=user.id, account=self.id, roles=user.roles, at=self.now)
        self.state.sessions[session] = SessionEntry(device, self.now, self.now, self.client_address)
        record(self, "login", actor=user.id, target=user.id, session=session)
        return self.mint.pair(session, 0, user, user.roles, self.now, user.version)

    async def _renew_hash(self, password: str) -> None:
        """Hash anew with the parameters of today. It counts when the login is complete; this turn may raise."""
        hashed = self.state.hashed
        if hashed not in self._renewed and self.passwords.is_outdated(hashed):
            self._renewed = {hashed: await self.passwords.hash(password)}

    async def _active_user(self) -> User:
        try:
            user = msgspec.convert(await self.call(users.TYPE, self.state.user, "show"), User)
        except Failure as failure:
            if failure.code != "not-found":
                raise
            await self._count_failure("login", "unknown")
            raise wrong_login() from None
        if user.status != "active":
            await self._count_failure("login", "deactivated")
            raise wrong_login()
        if user.email is not None and not (user.email_verified or self.settings.login_unverified):
            await self._note_failure("login", "unverified")
            raise Failure("email-unverified", "confirm the e-mail address first: the link was mailed to it")
        return user

    async def _is_free(self) -> bool:
        """Whether nobody has the name; a turn that only returned then would make an object."""
        if not self.state.user:
            await self.delete()
        return not self.state.user

    def _take_over(self, user: str) -> None:
        """End what a former holder has left, whose `release` comes too late."""
        if self.state.user != user:
            for session in self.state.sessions:
                self.tell(SESSION_TYPE, session, "end")

    async def _check_free(self, user: str) -> None:
        holder = self.state.user
        if holder and holder != user and await self._is_held(holder):
            raise Failure("exists", "the name is taken")

    async def _is_held(self, user: str) -> bool:
        try:
            return bool(await self.call(users.TYPE, user, "holds", account=self.id))
        except Failure as failure:
            if failure.code == "not-found":
                return False
            raise
