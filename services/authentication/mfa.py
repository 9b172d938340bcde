"""The second factor of an account: an authenticator app, and recovery codes in case the app is lost.

Promises: a one-time password works once, a recovery code works once, and a challenge completes one
login. The seed is stored only sealed, bound to its account. If the process dies before its answer
leaves, a retry of the same request passes again.

A recovery code has 80 random bits, too many to try. A fast hash therefore protects it as well as a
slow one; passwords need a slow hash because people choose them.
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
    """The stored second factor: sealed seeds and hashed recovery codes.

    `step` is the last time step whose code was used. `passed` is a digest of the last request that
    passed. `completed` maps the IDs of spent challenges to their expiry in seconds since the epoch.
    """

    seed: str = ""
    pending: str = ""
    step: int = 0
    recovery: list[str] = []
    passed: str = ""
    completed: dict[str, float] = {}


class SecondFactor:
    """The second factor of one account during one request. Its methods change the account's state."""

    def __init__(self, account: str, state: MfaState, sealer: Sealer, request: str, now: float) -> None:
        self._account = account
        self._state = state
        self._sealer = sealer
        self._request = request
        self._now = now

    def begin(self, username: str, issuer: str) -> TotpSecret:
        """Return a new secret, which takes effect once `confirm` has seen a code of it."""
        secret = totp.new_secret(username, issuer)
        self._state.pending = self._sealer.seal(secret.secret.encode(), "totp", self._account)
        return secret

    def confirm(self, otp: str) -> RecoveryCodes | None:
        """Activate the pending seed and return new recovery codes, or None if the code is wrong.

        Raises `conflict` if no seed is pending.
        """
        if not self._is_repeat(otp):
            if not self._state.pending:
                raise Failure("conflict", "there is no secret to confirm; request a new one first")
            step = self._find_step(self._state.pending, otp)
            if step is None:
                return None
            self._state.seed, self._state.pending, self._state.step = self._state.pending, "", step
            self._remember(otp)
        return self.new_recovery_codes()

    def new_recovery_codes(self) -> RecoveryCodes:
        """Replace all recovery codes and return the new ones."""
        codes = [_new_code() for _ in range(RECOVERY_CODES)]
        self._state.recovery = [_hash(code) for code in codes]
        return RecoveryCodes(recovery_codes=codes)

    def use_otp(self, otp: str) -> bool:
        """Spend a one-time password. Return True if it was valid."""
        step = self._find_step(self._state.seed, otp)
        if step is None or (step <= self._state.step and not self._is_repeat(otp)):
            return False
        self._state.step = max(step, self._state.step)
        self._remember(otp)
        return True

    def use_recovery_code(self, code: str) -> bool:
        """Spend a recovery code. Return True if it was valid."""
        hashed = _hash(code)
        if hashed in self._state.recovery:
            self._state.recovery.remove(hashed)
        elif not self._is_repeat(code):
            return False
        self._remember(code)
        return True

    def check_unspent(self, challenge: Challenge, code: str) -> None:
        """Raise `unauthenticated` if another request has already spent the challenge."""
        if challenge.id in self._state.completed and not self._is_repeat(code):
            raise wrong_challenge()

    def complete(self, challenge: Challenge) -> None:
        """Spend a challenge, once its code was used."""
        unexpired = {id: expires_at for id, expires_at in self._state.completed.items() if expires_at > self._now}
        self._state.completed = unexpired | {challenge.id: challenge.expires_at}

    def _find_step(self, seed: str, otp: str) -> int | None:
        return totp.find_step(self._sealer.open(seed, "totp", self._account).decode(), otp, self._now)

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
    """Return the hash of the code, ignoring case, hyphens and spaces."""
    text = "".join(code.replace("-", "").split()).lower()
    return hashlib.sha256(text.encode()).hexdigest()
