"""`/auth/mfa`: the caller's second factor."""

from __future__ import annotations

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.authentication import SESSION_TYPE, ConfirmPasswordBody, OtpBody, RecoveryCodes, TotpSecret

from ..http import bodies
from ..http.request import HttpRequest
from ..http.responses import HttpResponse
from .api_router import APIRouter
from .auth import OWN, AuthRouter, session_of_caller
from .operation import delete, post

TOTP, CONFIRM, CODES = "/auth/mfa/totp", "/auth/mfa/totp/confirm", "/auth/mfa/recovery-codes"
BEGIN = "Make a secret for an authenticator app, which counts once it is confirmed"
ENABLE = "Require a second factor at logins from now on"
DISABLE = "Require the password alone at logins"
RENEW = "Replace all recovery codes"
_password = msgspec.json.Decoder(ConfirmPasswordBody)


class MfaRouter(APIRouter):
    """All of `/auth/mfa` but `verify`, which is a login."""

    tag = "accounts"
    needs = AuthRouter.needs
    headers = AuthRouter.headers
    body_limit = AuthRouter.body_limit
    rows = (
        post(TOTP, "begin_totp", BEGIN, (OWN, "begin_totp"), TotpSecret, ConfirmPasswordBody, secret=True),
        post(CONFIRM, "confirm_totp", ENABLE, (OWN, "confirm_totp"), RecoveryCodes, OtpBody, secret=True),
        post(
            CODES,
            "renew_recovery_codes",
            RENEW,
            (OWN, "renew_recovery_codes"),
            RecoveryCodes,
            ConfirmPasswordBody,
            secret=True,
        ),
    )

    @delete(
        TOTP,
        "disable_totp",
        DISABLE,
        body=ConfirmPasswordBody,
        raw=True,
        optional=True,
        headers=("Otp", *AuthRouter.headers),
    )
    async def disable(self, request: HttpRequest) -> HttpResponse:
        """The password is in the body. Not every client can send a body with DELETE (RFC 9110 §9.3.5), so a code in
        the header `Otp` does too: it is worth nothing to whoever logs headers."""
        otp = request.header(b"otp")
        if otp is None:
            payload = await request.body(self.body_limit)
            bodies.decode(_password, payload, "body")
        else:
            payload = msgspec.json.encode({"otp": otp})
        subject = subjects.call(SESSION_TYPE, session_of_caller(request), "disable_totp")
        await self._forwarder.arguments(subject, payload, self._forwarder.options(request))
        return HttpResponse(204, headers=())
