"""The account's methods for its second factor: set-up, removal, recovery codes and login challenges."""

from __future__ import annotations

from aidevos import Failure, command, query, services
from aidevos.contracts.authentication import Otp, RecoveryCode, RecoveryCodes, TotpSecret
from aidevos.contracts.users import Password
from aidevos.security.audit import record

from . import challenge as challenges
from .credential_checks import CredentialChecks
from .mfa import MfaState


class SecondFactorMethods(CredentialChecks):
    """Methods that the user's own session calls. `session` is that session's ID."""

    @command(allow=services(), confidential=True)
    async def begin_totp(
        self,
        password: Password,
        username: str,
        session: str,
        otp: Otp | None = None,
        recovery_code: RecoveryCode | None = None,
    ) -> TotpSecret:
        """Return a secret for an authenticator app, which takes effect once `confirm_totp` has seen a code."""
        await self._check_proof(password, otp, recovery_code, "mfa.enabled", session)
        return self._second_factor().begin(username, self.settings.totp_issuer)

    @command(allow=services(), confidential=True)
    async def confirm_totp(self, otp: Otp, session: str) -> RecoveryCodes:
        """Require a second factor at logins from now on, and return the recovery codes."""
        await self._check_throttle("mfa.enabled", self.state.user, session, is_otp=True)
        codes = self._second_factor().confirm(otp)
        if codes is None:
            raise await self._reject_code("mfa.enabled", self.state.user, session)
        self._record("mfa.enabled", session)
        return codes

    @command(allow=services(), confidential=True)
    async def disable_totp(
        self,
        session: str,
        password: Password | None = None,
        otp: Otp | None = None,
        recovery_code: RecoveryCode | None = None,
    ) -> None:
        """Stop requiring a second factor. If none is required, no password or code is checked."""
        if self.state.mfa.seed:
            await self._check_proof(password, otp, recovery_code, "mfa.disabled", session)
            self._record("mfa.disabled", session)
        self.state.mfa = MfaState()

    @command(allow=services(), confidential=True)
    async def renew_recovery_codes(
        self, password: Password, session: str, otp: Otp | None = None, recovery_code: RecoveryCode | None = None
    ) -> RecoveryCodes:
        """Replace all recovery codes and return the new ones. Raises `conflict` without a second factor."""
        await self._check_proof(password, otp, recovery_code, "mfa.recovery_codes_renewed", session)
        if not self.state.mfa.seed:
            raise Failure("conflict", "this account has no second factor")
        self._record("mfa.recovery_codes_renewed", session)
        return self._second_factor().new_recovery_codes()

    @query(allow=services())
    async def has_mfa(self) -> bool:
        """Return True if logins need a second factor."""
        return bool(self.state.mfa.seed)

    async def _check_proof(
        self, password: str | None, otp: str | None, recovery_code: str | None, action: str, session: str
    ) -> None:
        """Check the password, if it is sent, and a code of the second factor, if there is one.

        Whoever has only the password, or only a session, must not change the second factor.
        """
        has_mfa, user = bool(self.state.mfa.seed), self.state.user
        if has_mfa and (otp is None) == (recovery_code is None):
            raise Failure("invalid", "send either otp or recovery_code of your second factor", field="args.otp")
        if password is not None:
            await self._check_password(password, action, actor=user, session=session)
        if has_mfa:
            await self._check_code(otp, recovery_code, action, actor=user, session=session)

    def _issue_challenge(self, device: str) -> Failure:
        """Return the answer to a correct password without the required code."""
        challenge = challenges.issue(self.sealer, self.id, self._challenge_binding(device), self.now)
        return Failure("mfa-required", "send the challenge back with a code", challenge=challenge)

    def _read_challenge(self, challenge: str, device: str, code: str) -> challenges.Challenge:
        """Return the content of a challenge that no other request has spent."""
        content = challenges.read(self.sealer, self.id, self._challenge_binding(device), challenge, self.now)
        self._second_factor().check_unspent(content, code)
        return content

    def _challenge_binding(self, device: str) -> tuple[str, ...]:
        """Return the binding that limits a challenge to one device, the present password and the present seed."""
        return device, self.state.hashed, self.state.mfa.seed

    def _record(self, action: str, session: str = "") -> None:
        record(self, action, actor=self.state.user, target=self.state.user, session=session)
