"""The second factor of an account: an authenticator app, and recovery codes for when it is lost.

Promises: a one-time password is good once, a recovery code is good once, and a challenge completes one
login. The seed is at rest only under the sealing key, bound to its account. When the process dies
before an answer has left, the repeat of that very request passes again.

Recovery codes are 80 random bits, so nobody can try them all, and a fast hash keeps them as well as a
slow one would; the slow one is for what people think of.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

import msgspec

from aidevos.contracts.authentication import RecoveryCodes, TotpSecret
from aidevos.contracts.errors import Failure
from aidevos.security.sealed import Sealer

from . import totp
from .challenge import Challenge, wrong_challenge

RECOVERY_CODES = 10
RECOVERY_BYTES = 10
GROUP = 4


class MfaState(msgspec.Struct):
    """Seeds are sealed, recovery codes hashed. `step` is the last whose code was used, `passed` a digest
    of the last request that passed, `completed` the challenges that are spent, until they expire."""

    seed: str = ""
    pending: str = ""
    step: int = 0
    recovery: list[str] = []
    passed: str = ""
    completed: dict[str, float] = {}


class SecondFactor:
    """The second factor of one account, in one request. What it changes is the account's state."""

    def __init__(self, account: str, state: MfaState, sealer: Sealer, request: str, now: float) -> None:
        self._account = account
        self._state = state
        self._sealer = sealer
        self._request = request
        self._now = now

    def begin(self, username: str, issuer: str) -> TotpSecret:
        """A new seed, which counts when it is confirmed."""
        made = totp.new_secret(username, issuer)
        self._state.pending = self._sealer.seal(made.secret.encode(), "totp", self._account)
        return made

    def confirm(self, otp: str) -> RecoveryCodes | None:
        """Let the pending seed count; None for a code that isn't its."""
        if not self._is_repeat(otp):
            if not self._state.pending:
                raise Failure("conflict", "there is nothing to confirm; begin with a new secret")
            step = self._step(self._state.pending, otp)
            if step is None:
                return None
            self._state.seed, self._state.pending, self._state.step = self._state.pending, "", step
            self._remember(otp)
        return self.new_recovery_codes()

    def new_recovery_codes(self) -> RecoveryCodes:
        """Other recovery codes; earlier ones are dead."""
        codes = [_new_code() for _ in range(RECOVERY_CODES)]
        self._state.recovery = [_hash(code) for code in codes]
        return RecoveryCodes(recovery_codes=codes)

    def use_otp(self, otp: str) -> bool:
        """Whether the code was good; now it is spent."""
        step = self._step(self._state.seed, otp)
        if step is None or (step <= self._state.step and not self._is_repeat(otp)):
            return False
        self._state.step = max(step, self._state.step)
        self._remember(otp)
        return True

    def use_recovery_code(self, code: str) -> bool:
        """Whether the code was good; now it is spent."""
        hashed = _hash(code)
        if hashed in self._state.recovery:
            self._state.recovery.remove(hashed)
        elif not self._is_repeat(code):
            return False
        self._remember(code)
        return True

    def complete(self, challenge: Challenge, code: str) -> None:
        """Spend a challenge; raises `unauthenticated` where another request has."""
        if challenge.id in self._state.completed and not self._is_repeat(code):
            raise wrong_challenge()
        going_on = {id: at for id, at in self._state.completed.items() if at > self._now}
        self._state.completed = going_on | {challenge.id: challenge.expires_at}

    def _step(self, seed: str, otp: str) -> int | None:
        return totp.step_of(self._sealer.open(seed, "totp", self._account).decode(), otp, self._now)

    def _is_repeat(self, code: str) -> bool:
        return self._state.passed == self._digest(code)

    def _remember(self, code: str) -> None:
        self._state.passed = self._digest(code)

    def _digest(self, code: str) -> str:
        return hashlib.sha256(f"{self._request}\0{code}".encode()).hexdigest()


def _new_code() -> str:
    text = base64.b32encode(secrets.token_bytes(RECOVERY_BYTES)).decode().lower()
    return "-".join(text[start : start + GROUP] for start in range(0, len(text), GROUP))


def _hash(code: str) -> str:
    """Of the code without regard to case, hyphens and spaces."""
    text = "".join(code.replace("-", "").split()).lower()
    return hashlib.sha256(text.encode()).hexdigest()
