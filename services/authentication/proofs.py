"""What an account asks for before it does something: the password, or a code of the second factor.

Failures of either count in one throttle, and each is written into the security log. Those from where the
user has logged in before count apart, so a stranger who fails on purpose locks out strangers alone. A right password
that a second factor has to follow clears nothing, or it would buy any number of guesses at codes.
Whoever has the password could still guess on slowly, so one-time passwords have a limit for a day too;
recovery codes, which can't be guessed, still work past it.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, inject
from aidevos.security.audit import record_failure
from aidevos.security.passwords import Passwords
from aidevos.security.sealed import Sealer
from aidevos.security.throttle import Throttle, Throttles, network_of
from aidevos.settings import Settings

from .mfa import MfaState, SecondFactor
from .rules import SessionEntry, wrong_login

MAX_ADDRESSES = 10


class AccountState(msgspec.Struct):
    """`user` has the name or is about to; `primary` is set on an e-mail address: its username's object.
    `addresses` are the networks of the last logins, the latest at the end."""

    user: str = ""
    primary: str = ""
    hashed: str = ""
    sessions: dict[str, SessionEntry] = {}
    mfa: MfaState = msgspec.field(default_factory=MfaState)
    addresses: list[str] = []


class Proofs(BaseDurableObject[AccountState]):
    """The checks; `action` is what they are asked for, as the security log names it."""

    settings: Settings = inject()
    passwords: Passwords = inject()
    sealer: Sealer = inject()
    guesses: Throttles = inject()

    def __init__(self, id: str, state: AccountState) -> None:
        super().__init__(id, state)
        self._throttled_until = 0.0
        self._failures = Throttles(
            self.settings.login_failures, self.settings.login_window, "failed logins of this account"
        )
        # Old hash → new one, until a login is complete.
        self._renewed: dict[str, str] = {}

    async def _check_password(self, password: str, action: str, *, actor: str = "", session: str = "") -> None:
        await self._check_throttle(action, actor, session)
        if not await self.passwords.verify(self.state.hashed or None, password):
            await self._count_failure(action, "wrong password" if self.state.hashed else "unknown", actor, session)
            raise wrong_login()

    async def _check_code(
        self, otp: str | None, recovery_code: str | None, action: str, *, actor: str = "", session: str = ""
    ) -> None:
        """Spend a code, one of the two."""
        await self._check_throttle(action, actor, session, guess=otp is not None)
        factor = self._second_factor()
        passed = factor.use_otp(otp) if otp is not None else factor.use_recovery_code(recovery_code or "")
        if not passed:
            raise await self._wrong_code(action, actor, session)

    async def _wrong_code(self, action: str, actor: str = "", session: str = "") -> Failure:
        self.guesses.of(self.id).count(self.now)
        await self._count_failure(action, "wrong code", actor, session)
        return Failure("unauthenticated", "the code is wrong, or it was used")

    async def _check_throttle(self, action: str, actor: str, session: str, *, guess: bool = False) -> None:
        try:
            self._throttle().check(self.now)
            if guess:
                self.guesses.of(self.id).check(self.now)
        except Failure:
            # One entry for all attempts of a window: a flood must not write.
            if self._throttled_until <= self.now:
                self._throttled_until = self.now + self.settings.login_window
                await self._note_failure(action, "throttled", actor, session)
            raise

    def _throttle(self) -> Throttle:
        """Of where the caller is: each network that the account was used from has its own, all others share
        one, so no stranger keeps the user out."""
        network = network_of(self.client_address)
        return self._failures.of(network if network in self.state.addresses else "")

    def _trust_address(self) -> None:
        """Note that the user has logged in from here, or has shown to be it."""
        network = network_of(self.client_address)
        if network:
            others = [address for address in self.state.addresses if address != network]
            self.state.addresses = [*others, network][-MAX_ADDRESSES:]

    async def _count_failure(self, action: str, reason: str, actor: str = "", session: str = "") -> None:
        self._throttle().count(self.now)
        await self._note_failure(action, reason, actor, session)

    async def _note_failure(self, action: str, reason: str, actor: str = "", session: str = "") -> None:
        target = self.state.user or self.id
        await record_failure(self, action, actor=actor, target=target, reason=reason, session=session)

    def _second_factor(self) -> SecondFactor:
        return SecondFactor(self.id, self.state.mfa, self.sealer, self.request_id, self.now)
