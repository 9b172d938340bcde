"""A login name: the user who holds it, the password's hash, and the sessions opened with it.

The object of a username keeps the hash and the sessions. The object of an e-mail address points to
the username's object. A name is reserved before its user exists. The next user who wants the name
asks the holder's object whether that user was created. A registration that died halfway therefore
keeps no name, and no clock is involved.
"""

from __future__ import annotations

import asyncio
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
    PasswordChanged,
    RecoveryCode,
    SessionPage,
    TokenPair,
    account_id,
)
from aidevos.contracts.confirmation import CONFIRMATION_TYPE
from aidevos.contracts.users import Password, User
from aidevos.security.audit import record
from aidevos.security.second_factor import needs_second_factor
from aidevos.security.throttle import AddressThrottle

from .credential_checks import AccountState
from .login_count import counted
from .mint import Mint
from .rules import SessionEntry, find_surplus_sessions, show_session, wrong_login
from .second_factor import SecondFactorMethods

Logins = NewType("Logins", AddressThrottle)
# Seconds for the holder's answer. The holder, whose registration is refused, may itself wait for this object.
HOLDER_TIMEOUT = 5.0
# The types whose objects, under a user's ID, hold API keys and webhooks: by their place in `PasswordChanged`.
CredentialHolders = NewType("CredentialHolders", dict[str, str])


class AuthenticationDO(SecondFactorMethods, type=ACCOUNT_TYPE, management="read_only"):
    """A username or an e-mail address, with the credentials to log in with it."""

    mint: Mint = inject()
    logins: Logins = inject()
    holders: CredentialHolders = inject()

    @command(allow=anyone(), confidential=True)
    async def login(
        self, username: LoginName, password: Password, otp: Otp | None = None, device: Device = ""
    ) -> TokenPair:
        """Open a session and return its tokens.

        Unknown names, deactivated users and wrong passwords all get the same `unauthenticated`, after the
        same time. If a second factor is missing, `mfa-required` carries a challenge for `verify`.
        """
        if account_id(username) != self.id:
            raise Failure("invalid", "this object belongs to another login name", field="args.username")
        with counted():
            await self.logins.admit(self.client_address, self.now, self.call)
            if "@" in username:
                return await self._sign_in_by_email(password, otp, device)
            return await self._sign_in(password, otp, device)

    async def _sign_in_by_email(self, password: str, otp: str | None, device: str) -> TokenPair:
        # An unknown address takes the same path, to an object without a password, so that time reveals nothing.
        primary = self.state.primary or hashlib.sha256(self.id.encode()).hexdigest()
        reply = await self.call(ACCOUNT_TYPE, primary, "sign_in", password=password, otp=otp, device=device)
        return msgspec.convert(reply, TokenPair)

    @command(allow=services(), confidential=True)
    async def sign_in(self, password: Password, device: Device, otp: Otp | None = None) -> TokenPair:
        """Open a session for a login by e-mail address."""
        return await self._sign_in(password, otp, device)

    @command(allow=anyone(), confidential=True)
    async def verify(
        self,
        challenge: Challenge,
        otp: Otp | None = None,
        recovery_code: RecoveryCode | None = None,
        device: Device = "",
    ) -> TokenPair:
        """Complete a login with a code of the second factor, on the device that began it."""
        code = otp or recovery_code
        if code is None or (otp and recovery_code):
            raise Failure("invalid", "send either otp or recovery_code", field="args.otp")
        with counted():
            content = self._read_challenge(challenge, device, code)
            await self._check_code(otp, recovery_code, "login")
            self._second_factor().complete(content)
            if recovery_code is not None:
                self._record("mfa.recovery_code_used")
            return await self._open_session(await self._load_active_user(), device)

    @command(allow=services(), confidential=True)
    async def reserve(self, user: str, password: Password) -> None:
        """Reserve this username, with this password, for a user who is about to be created.

        Raises `exists` while another user holds the name.
        """
        await self._check_free(user)
        hashed = await self.passwords.hash(password)
        self._end_sessions_of_former_holder(user)
        self.state = AccountState(user=user, hashed=hashed)

    @command(allow=services())
    async def reserve_email(self, user: str, primary: str) -> None:
        """Reserve this e-mail address for a user, whose username's object is `primary`.

        Raises `exists` while another user holds the address.
        """
        await self._check_free(user)
        self._end_sessions_of_former_holder(user)
        self.state = AccountState(user=user, primary=primary)

    @command(allow=services())
    async def free_email(self, user: str) -> None:
        """Release this e-mail address, unless the user has taken it again in the meantime."""
        if self.state.user != user or await self._is_held_by(user):
            return
        await self.delete()

    @query(allow=services())
    async def holder(self) -> str:
        """Return the ID of the user for whom this name is taken or reserved; empty if it is free."""
        return self.state.user

    @command(allow=services())
    async def release(self, user: str) -> None:
        """Release the name and end its sessions, if this user holds it."""
        if self.state.user == user:
            for session in self.state.sessions:
                self.tell(SESSION_TYPE, session, "end")
            await self.delete()

    @command(allow=services(), confidential=True)
    async def change_password(
        self, current: Password, new: Password, session: str, revoke_keys: bool = False
    ) -> PasswordChanged:
        """Set a new password, end all other sessions, and void earlier links in mails."""
        user = self.state.user
        await self._check_password(current, "password.changed", actor=user, session=session)
        changed = await self._set_password(new, revoke_keys)
        record(self, "password.changed", actor=user, target=user, session=session)
        for other in [other for other in self.state.sessions if other != session]:
            del self.state.sessions[other]
            self.tell(SESSION_TYPE, other, "end")
        return changed

    @command(allow=services(), confidential=True)
    async def reset_password(self, user: str, new: Password, revoke_keys: bool = True) -> PasswordChanged:
        """Set a new password for this user, whose identity the caller has verified, and end every session."""
        if self.state.user != user:
            raise Failure("not-found", "this account doesn't exist")
        changed = await self._set_password(new, revoke_keys)
        self.state.failures.pop("", None)
        self._trust_address()
        self._end_sessions()
        return changed

    async def _set_password(self, new: str, revoke_keys: bool) -> PasswordChanged:
        """Set a new password, and return the credentials that don't depend on it, which may end now."""
        user = self.state.user
        held = {name: await self.call(type, user, "summaries") for name, type in self.holders.items()}
        changed = msgspec.convert({**held, "revoked": revoke_keys}, PasswordChanged)
        self.state.hashed = await self.passwords.hash(new)
        if revoke_keys and any(held.values()):
            for type in self.holders.values():
                self.tell(type, user, "erase")
            record(self, "credentials.revoked", actor=user, target=user)
        self.tell(CONFIRMATION_TYPE, user, "void_links", changed=changed)
        return changed

    @command(allow=services(), confidential=True)
    async def check_password(self, password: Password, action: str, session: str) -> None:
        """Raise `unauthenticated` if the password is wrong.

        A wrong password counts as a failed login. The security log records it as a failure of `action`.
        """
        await self._check_password(password, action, actor=self.state.user, session=session)

    @query(allow=services())
    async def sessions(self, current: str = "") -> SessionPage:
        """Return the open sessions, most recently used first. `current` is the caller's session."""
        entries = self.state.sessions
        last_used_first = sorted(entries, key=lambda id: entries[id].last_used_at, reverse=True)
        return SessionPage(items=[show_session(id, entries[id], current) for id in last_used_first])

    @command(allow=services())
    async def touch(self, session: str, at: float) -> None:
        """Record the last use of a session; `at` is in seconds since the epoch."""
        if not await self._delete_if_free() and session in self.state.sessions:
            self.state.sessions[session].last_used_at = at

    @command(allow=services())
    async def forget(self, session: str) -> None:
        """Remove a session that has ended."""
        if not await self._delete_if_free():
            self.state.sessions.pop(session, None)

    @command(allow=services())
    async def end_session(self, session: str) -> None:
        """End one session of this account."""
        if not await self._delete_if_free() and self.state.sessions.pop(session, None) is not None:
            self.tell(SESSION_TYPE, session, "end")

    @command(allow=services())
    async def revoke_session(self, session: str) -> None:
        """End a session whose refresh token was reused, and record the reuse in the security log."""
        if not await self._delete_if_free() and self.state.sessions.pop(session, None) is not None:
            self.tell(SESSION_TYPE, session, "end")
            reason = "a refresh token was reused"
            record(self, "session.revoked", actor="", target=self.state.user, reason=reason, session=session)

    @command(allow=services())
    async def end_sessions(self) -> None:
        """End every session of this account."""
        if not await self._delete_if_free():
            self._end_sessions()

    def _end_sessions(self) -> None:
        for session in self.state.sessions:
            self.tell(SESSION_TYPE, session, "end")
        self.state.sessions = {}

    async def _sign_in(self, password: str, otp: str | None, device: str) -> TokenPair:
        await self._check_password(password, "login")
        user = await self._load_active_user()
        await self._renew_hash(password)
        if self.state.mfa.seed:
            if otp is None:
                raise self._issue_challenge(device)
            await self._check_code(otp, None, "login")
        return await self._open_session(user, device)

    async def _open_session(self, user: User, device: str) -> TokenPair:
        self.state.failures.pop(self._failing_network(), None)
        self._trust_address()
        self.state.hashed = self._renewed.pop(self.state.hashed, self.state.hashed)
        for session in find_surplus_sessions(self.state.sessions, self.now, self.settings.refresh_age):
            del self.state.sessions[session]
            self.tell(SESSION_TYPE, session, "end")
        session = new_id()
        # If this turn fails after the call, the session stays open, but its tokens never reach anyone.
        must_enrol = not self.state.mfa.seed and needs_second_factor(self.settings.mfa_required, user.roles)
        await self.call(
            SESSION_TYPE,
            session,
            "open",
            user=user.id,
            account=self.id,
            roles=user.roles,
            at=self.now,
            must_enrol=must_enrol,
        )
        self.state.sessions[session] = SessionEntry(device, self.now, self.now, self.client_address)
        record(self, "login", actor=user.id, target=user.id, session=session)
        return self.mint.issue_pair(session, 0, user, user.roles, self.now, user.version, must_enrol=must_enrol)

    async def _renew_hash(self, password: str) -> None:
        """Rehash the password if the hash parameters have changed.

        The new hash enters the state only when the login completes, because this turn may still raise.
        """
        hashed = self.state.hashed
        if hashed not in self._renewed and self.passwords.is_outdated(hashed):
            self._renewed = {hashed: await self.passwords.hash(password)}

    async def _load_active_user(self) -> User:
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
            raise Failure("email-unverified", "confirm your e-mail address first, by the link that was mailed to it")
        return user

    async def _delete_if_free(self) -> bool:
        """Delete this object if nobody holds the name, and return True if so.

        Without the deletion, the turn would leave an empty object behind.
        """
        if not self.state.user:
            await self.delete()
        return not self.state.user

    def _end_sessions_of_former_holder(self, user: str) -> None:
        """End the sessions of a holder other than `user`, whose `release` will arrive too late."""
        if self.state.user != user:
            for session in self.state.sessions:
                self.tell(SESSION_TYPE, session, "end")

    async def _check_free(self, user: str) -> None:
        holder = self.state.user
        if holder and holder != user and await self._is_held_by(holder):
            raise Failure("exists", "this name is taken")

    async def _is_held_by(self, user: str) -> bool:
        try:
            async with asyncio.timeout(HOLDER_TIMEOUT):
                return bool(await self.call(users.TYPE, user, "holds", account=self.id))
        except TimeoutError:
            raise Failure("unavailable", "the user who may hold this name did not answer in time") from None
        except Failure as failure:
            if failure.code == "not-found":
                return False
            raise
