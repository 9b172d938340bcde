"""What an account does about its second factor: it begins, confirms and ends it, and asks for it at logins."""

from __future__ import annotations

from aidevos import Failure, command, query, services
from aidevos.contracts.authentication import Otp, RecoveryCodes, TotpSecret
from aidevos.contracts.users import Password
from aidevos.security.audit import record

from . import challenge as challenges
from .mfa import MfaState
from .proofs import Proofs


class SecondFactorMethods(Proofs):
    """Calls that come from the user's own session, which is `session`."""

    @command(allow=services(), confidential=True)
    async def begin_totp(self, password: Password, username: str, session: str) -> TotpSecret:
        """A secret for an authenticator app."""
        await self._check_password(password, "mfa.enabled", actor=self.state.user, session=session)
        return self._second_factor().begin(username, self.settings.totp_issuer)

    @command(allow=services(), confidential=True)
    async def confirm_totp(self, otp: Otp, session: str) -> RecoveryCodes:
        """Ask for a second factor from now on."""
        await self._check_throttle("mfa.enabled", self.state.user, session, guess=True)
        codes = self._second_factor().confirm(otp)
        if codes is None:
            raise await self._wrong_code("mfa.enabled", self.state.user, session)
        self._record("mfa.enabled", session)
        return codes

    @command(allow=services(), confidential=True)
    async def disable_totp(self, session: str, password: Password | None = None, otp: Otp | None = None) -> None:
        """Ask for no second factor any more. Where none is asked for, nothing has to be proven."""
        if self.state.mfa.seed:
            if password is not None:
                await self._check_password(password, "mfa.disabled", actor=self.state.user, session=session)
            else:
                await self._check_code(otp, None, "mfa.disabled", actor=self.state.user, session=session)
            self._record("mfa.disabled", session)
        self.state.mfa = MfaState()

    @command(allow=services(), confidential=True)
    async def renew_recovery_codes(self, password: Password, session: str) -> RecoveryCodes:
        """Other recovery codes; earlier ones are dead."""
        await self._check_password(password, "mfa.recovery_codes_renewed", actor=self.state.user, session=session)
        if not self.state.mfa.seed:
            raise Failure("conflict", "there is no second factor to recover from")
        self._record("mfa.recovery_codes_renewed", session)
        return self._second_factor().new_recovery_codes()

    @query(allow=services())
    async def has_mfa(self) -> bool:
        """Whether logins need a second factor."""
        return bool(self.state.mfa.seed)

    def _challenge(self, device: str) -> Failure:
        """The answer to a right password that a code has to follow."""
        challenge = challenges.issue(self.sealer, self.id, self._bound(device), self.now)
        return Failure("mfa-required", "send the challenge back with a code", challenge=challenge)

    def _spend_challenge(self, challenge: str, device: str, code: str) -> None:
        proven = challenges.read(self.sealer, self.id, self._bound(device), challenge, self.now)
        self._second_factor().complete(proven, code)

    def _bound(self, device: str) -> tuple[str, ...]:
        """What a challenge holds for: one device, and until the password or the seed changes."""
        return device, self.state.hashed, self.state.mfa.seed

    def _record(self, action: str, session: str = "") -> None:
        record(self, action, actor=self.state.user, target=self.state.user, session=session)
