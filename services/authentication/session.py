"""A session: an open login, its refresh tokens, and its end.

Promise: a refresh token works once. Within a grace period after a rotation, a repeat returns the same
pair, as long as nobody has used the successor. Any other reuse ends the session, because it shows
that two parties have its tokens (RFC 9700 §4.14). The end is an event to which every verifier of
tokens listens.
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
    PasswordChanged,
    RecoveryCode,
    RecoveryCodes,
    RefreshToken,
    SessionPage,
    TokenPair,
    TotpSecret,
    Whoami,
    enrolment_subject,
)
from aidevos.contracts.users import Password, User
from aidevos.security.audit import record
from aidevos.security.passwords import check_policy
from aidevos.security.second_factor import needs_second_factor
from aidevos.settings import Settings

from .mint import Mint
from .rules import wrong_token


class SessionState(msgspec.Struct):
    """The state of one session.

    `number` counts the rotations of its tokens. The pair of that number was issued at `issued_at`, in
    seconds since the epoch, with the roles that the user had at `version`. If `must_enrol` is true, it is good
    for this session alone, because the user has no second factor but needs one.
    """

    user: str = ""
    account: str = ""
    number: int = 0
    issued_at: float = 0.0
    roles: list[str] = []
    version: int = 0
    must_enrol: bool = False


class SessionEnded(Event):
    """The session has ended, and its tokens are no longer valid."""

    user: str


class SessionDO(BaseDurableObject[SessionState], type=SESSION_TYPE, management="read_only"):
    """An open login. It ends by logout, by disuse, or when a spent refresh token is reused."""

    settings: Settings = inject()
    mint: Mint = inject()

    @command(allow=services(), creates=True)
    async def open(self, user: str, account: str, roles: list[str], at: float, must_enrol: bool = False) -> None:
        """Open the session. The account issues the first pair of tokens."""
        self.state = SessionState(user=user, account=account, issued_at=at, roles=roles, must_enrol=must_enrol)

    @command(allow=anyone(), confidential=True)
    async def refresh(self, refresh_token: RefreshToken) -> TokenPair:
        """Return a new pair of tokens, and spend the given refresh token."""
        state = self.state
        number = self.mint.read_number(self.id, refresh_token)
        if not state.user or number is None or state.issued_at + self.settings.refresh_age <= self.now:
            raise wrong_token()
        is_repeat = number == state.number - 1 and self.now - state.issued_at <= self.settings.refresh_grace
        if number != state.number and not is_repeat:
            # This turn raises and so leaves no trace. The account therefore ends the session.
            await self.call(ACCOUNT_TYPE, state.account, "revoke_session", session=self.id)
            raise wrong_token()
        user = await self._load_active_user()
        if not is_repeat:
            state.number += 1
            state.issued_at = self.now
            state.roles, state.version = user.roles, user.version
            state.must_enrol = self._needs_second_factor(user) and not await self._has_mfa()
            self.tell(ACCOUNT_TYPE, state.account, "touch", session=self.id, at=self.now)
        return self.mint.issue_pair(
            self.id, state.number, user, state.roles, state.issued_at, state.version, must_enrol=state.must_enrol
        )

    @command(allow=authenticated())
    async def end(self) -> None:
        """End this session. Its tokens stop working within moments."""
        if self.caller.is_service and not self.state.user:
            # The session has already ended. Without the deletion, this tell would leave an empty object behind.
            await self.delete()
            return
        self._check_owner()
        self.tell(ACCOUNT_TYPE, self.state.account, "forget", session=self.id)
        if not self.caller.is_service:
            action = "logout" if self.caller.session == self.id else "session.ended"
            record(self, action, actor=self.state.user, target=self.state.user, session=self.id)
        self.emit(SessionEnded(user=self.state.user))
        await self.delete()

    @command(allow=authenticated())
    async def end_all(self) -> None:
        """End this session and all other sessions of its user."""
        self._check_owner()
        self.tell(ACCOUNT_TYPE, self.state.account, "end_sessions")
        record(self, "sessions.ended", actor=self.state.user, target=self.state.user)

    @command(allow=authenticated(), confidential=True)
    async def change_password(
        self, current_password: Password, new_password: Password, revoke_keys: bool = False
    ) -> PasswordChanged:
        """Change the password. All other sessions of the user end.

        With `revoke_keys`, so do the user's API keys and webhooks.
        """
        self._check_owner()
        user = await self._load_user()
        personal = (user.username, user.email or "", (user.email or "").partition("@")[0], user.full_name)
        check_policy(new_password, self.settings.password_min_length, personal, field="args.new_password")
        reply = await self._call_account(
            "change_password", current=current_password, new=new_password, revoke_keys=revoke_keys
        )
        return msgspec.convert(reply, PasswordChanged)

    @command(allow=authenticated(), confidential=True)
    async def begin_totp(
        self, password: Password, otp: Otp | None = None, recovery_code: RecoveryCode | None = None
    ) -> TotpSecret:
        """Return a secret for an authenticator app, which takes effect once `confirm_totp` has seen a code.

        To replace a second factor, send one of its codes too.
        """
        self._check_owner()
        username = (await self._load_user()).username
        reply = await self._call_account(
            "begin_totp", password=password, username=username, otp=otp, recovery_code=recovery_code
        )
        return msgspec.convert(reply, TotpSecret)

    @command(allow=authenticated(), confidential=True)
    async def confirm_totp(self, otp: Otp) -> RecoveryCodes:
        """Require a second factor at logins from now on. The recovery codes are shown only this once."""
        self._check_owner()
        return msgspec.convert(await self._call_account("confirm_totp", otp=otp), RecoveryCodes)

    @command(allow=authenticated(), confidential=True)
    async def disable_totp(
        self, password: Password | None = None, otp: Otp | None = None, recovery_code: RecoveryCode | None = None
    ) -> None:
        """Stop requiring a second factor. Needs one of its codes as proof, and the password if it is sent.

        Raises `forbidden` if one of the user's roles needs a second factor.
        """
        self._check_owner()
        if password is None and otp is None and recovery_code is None:
            raise Failure("invalid", "send a code of the second factor", field="args.otp")
        if self._needs_second_factor(await self._load_user()):
            raise Failure("forbidden", "one of your roles needs a second factor: replace it instead")
        await self._call_account("disable_totp", password=password, otp=otp, recovery_code=recovery_code)

    @command(allow=authenticated(), confidential=True)
    async def renew_recovery_codes(
        self, password: Password, otp: Otp | None = None, recovery_code: RecoveryCode | None = None
    ) -> RecoveryCodes:
        """Replace all recovery codes. Needs a code of the second factor. The new ones are shown only this once."""
        self._check_owner()
        reply = await self._call_account(
            "renew_recovery_codes", password=password, otp=otp, recovery_code=recovery_code
        )
        return msgspec.convert(reply, RecoveryCodes)

    @query(allow=services())
    async def is_open(self) -> bool:
        """Return True if the session is open."""
        return bool(self.state.user)

    @query(allow=authenticated())
    async def sessions(self) -> SessionPage:
        """Return all sessions of this session's user, most recently used first."""
        self._check_owner()
        reply = await self.call(ACCOUNT_TYPE, self.state.account, "sessions", current=self.caller.session)
        return msgspec.convert(reply, SessionPage)

    @query(allow=authenticated())
    async def me(self) -> Whoami:
        """Return the session's user and the permissions of the caller's token."""
        self._check_owner()
        user = await self._load_user()
        mfa = await self._has_mfa()
        return Whoami(user=user, permissions=sorted(self.caller.permissions), session=self.id, mfa=mfa)

    def _check_owner(self) -> None:
        caller = self.caller
        is_owner = caller.acts_for(self.state.user, "sessions:self") or caller.subject == enrolment_subject(self.id)
        if not self.state.user or not (caller.is_service or is_owner):
            raise Failure("not-found", "this session doesn't exist")

    def _needs_second_factor(self, user: User) -> bool:
        return needs_second_factor(self.settings.mfa_required, user.roles)

    async def _has_mfa(self) -> bool:
        return bool(await self.call(ACCOUNT_TYPE, self.state.account, "has_mfa"))

    async def _call_account(self, method: str, **args: str | bool | None) -> Any:
        """Call this session's account in a way that the security log attributes to this session."""
        return await self.call(ACCOUNT_TYPE, self.state.account, method, session=self.id, **args)

    async def _load_active_user(self) -> User:
        try:
            user = await self._load_user()
        except Failure as failure:
            if failure.code != "not-found":
                raise
            raise wrong_token() from None
        if user.status != "active":
            raise wrong_token()
        return user

    async def _load_user(self) -> User:
        return msgspec.convert(await self.call(users.TYPE, self.state.user, "show"), User)
