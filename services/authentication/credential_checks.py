"""An account's checks of the password and of the second factor, with their throttles.

Promise: a wrong password or code is counted, and written into the security log, before it is answered, in
one commit with the account's state. So no restart grants further attempts. A success is counted by no
commit of its own.

Wrong passwords and wrong codes count in one throttle. Each network from which the user has logged in
before has a throttle of its own, so a stranger who fails on purpose locks out only strangers. A correct
password clears nothing while the second factor is still missing; otherwise it would buy unlimited guesses
at codes. An attacker who has the password could still guess codes slowly, so one-time passwords also have
a daily limit. Recovery codes can't be guessed and keep working past that limit.
"""

from __future__ import annotations

import msgspec

from aidevos import Alarm, BaseDurableObject, Failure, inject
from aidevos.security.audit import record, record_failure
from aidevos.security.passwords import Passwords
from aidevos.security.sealed import Sealer
from aidevos.security.throttle import Throttle, network_of
from aidevos.settings import Settings

from .mfa import MfaState, SecondFactor
from .rules import SessionEntry, wrong_login

MAX_ADDRESSES = 10
# Seconds.
OTP_WINDOW = 86_400.0
# The alarm that deletes the failures of a name that nobody has.
FORGET_ALARM = "forget"


class AccountState(msgspec.Struct):
    """The state of one login name.

    `user` is the ID of the user for whom the name is taken or reserved. An e-mail address has only
    `primary`, the ID of its username's object. `addresses` are the networks of the last logins, oldest first.
    `failures` holds the times of recent failures by network, empty for all others, and `wrong_codes` those of
    wrong one-time codes. Times are in seconds since the epoch.
    """

    user: str = ""
    primary: str = ""
    hashed: str = ""
    sessions: dict[str, SessionEntry] = {}
    mfa: MfaState = msgspec.field(default_factory=MfaState)
    addresses: list[str] = []
    failures: dict[str, list[float]] = {}
    wrong_codes: list[float] = []


class CredentialChecks(BaseDurableObject[AccountState]):
    """The checks of an account. `action` is the security log's name for the operation that needs a check."""

    settings: Settings = inject()
    passwords: Passwords = inject()
    sealer: Sealer = inject()

    def __init__(self, id: str, state: AccountState) -> None:
        super().__init__(id, state)
        self._throttled_until = 0.0
        # Old hash → new hash, until a login completes.
        self._renewed: dict[str, str] = {}

    async def _check_password(self, password: str, action: str, *, actor: str = "", session: str = "") -> None:
        await self._check_throttle(action, actor, session)
        if not await self.passwords.verify(self.state.hashed or None, password):
            await self._count_failure(action, "wrong password" if self.state.hashed else "unknown", actor, session)
            raise wrong_login()

    async def _check_code(
        self, otp: str | None, recovery_code: str | None, action: str, *, actor: str = "", session: str = ""
    ) -> None:
        """Spend one of the two codes. Raises `unauthenticated` if it is wrong or was used before."""
        await self._check_throttle(action, actor, session, is_otp=otp is not None)
        factor = self._second_factor()
        is_valid = factor.use_otp(otp) if otp is not None else factor.use_recovery_code(recovery_code or "")
        if not is_valid:
            raise await self._reject_code(action, actor, session)

    async def _reject_code(self, action: str, actor: str = "", session: str = "") -> Failure:
        """Count a wrong code and return the error to raise."""
        self._otp_throttle().count(self.now)
        await self._count_failure(action, "wrong code", actor, session)
        return Failure("unauthenticated", "the code is wrong or has already been used")

    async def _check_throttle(self, action: str, actor: str, session: str, *, is_otp: bool = False) -> None:
        try:
            self._throttle(self.state.failures.get(self._failing_network(), [])).check(self.now)
            if is_otp:
                self._otp_throttle().check(self.now)
        except Failure:
            # All attempts of a window share one log entry, so that a flood causes no writes.
            if self._throttled_until <= self.now:
                self._throttled_until = self.now + self.settings.login_window
                await self._note_failure(action, "throttled", actor, session)
            raise

    def _throttle(self, failures: list[float]) -> Throttle:
        settings = self.settings
        return Throttle(settings.login_failures, settings.login_window, "failed logins for this account", failures)

    def _otp_throttle(self) -> Throttle:
        what = "wrong codes for this account today"
        return Throttle(self.settings.otp_failures, OTP_WINDOW, what, self.state.wrong_codes)

    def _failing_network(self) -> str:
        """Return the caller's network under which failures count. All networks without a login count as one."""
        network = network_of(self.client_address)
        return network if network in self.state.addresses else ""

    def _trust_address(self) -> None:
        """Add the caller's network to those where the user has proved their identity."""
        network = network_of(self.client_address)
        if network:
            others = [address for address in self.state.addresses if address != network]
            self.state.addresses = [*others, network][-MAX_ADDRESSES:]

    async def _count_failure(self, action: str, reason: str, actor: str = "", session: str = "") -> None:
        """Count a failure and record it in the security log, for good. No other change may be pending."""
        state = self.state
        state.failures = {each: state.failures[each] for each in state.failures if each in ("", *state.addresses)}
        self._throttle(state.failures.setdefault(self._failing_network(), [])).count(self.now)
        if not state.user:
            self.alarms.set(FORGET_ALARM, in_=self.settings.login_window)
        record(
            self, action, actor=actor, target=state.user or self.id, reason=reason, outcome="failure", session=session
        )
        await self.checkpoint(keeps_version=True)

    async def on_alarm(self, alarm: Alarm) -> None:
        """Delete the failures of a name that nobody has taken in the meantime."""
        if alarm.name == FORGET_ALARM and not self.state.user:
            await self.delete()

    async def _note_failure(self, action: str, reason: str, actor: str = "", session: str = "") -> None:
        target = self.state.user or self.id
        await record_failure(self, action, actor=actor, target=target, reason=reason, session=session)

    def _second_factor(self) -> SecondFactor:
        return SecondFactor(self.id, self.state.mfa, self.sealer, self.request_id, self.now)
