"""The part of the API's description that is about second factors."""

from __future__ import annotations

from aidevos.contracts import authentication

from .openapi_parts import CHANGE, Json, content, operation, parameter, reference, schemas_of, sent

LOGIN = (400, 401, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504)


def schemas() -> Json:
    return schemas_of(
        authentication.ConfirmPasswordBody,
        authentication.MfaVerifyBody,
        authentication.OtpBody,
        authentication.RecoveryCodes,
        authentication.TotpSecret,
    )


def parameters() -> Json:
    return {"Otp": parameter("Otp", "header", "^[0-9]{6}$", "A code, instead of the body")}


def paths() -> Json:
    codes = {"200": content("Shown this once", reference("RecoveryCodes"))}
    return {
        "/auth/mfa/verify": {
            "post": operation(
                "verify_mfa",
                "accounts",
                "Complete a login by its second factor",
                {"200": content("Tokens", {"oneOf": [reference("TokenPair"), reference("CookieSession")]})},
                LOGIN,
                parameters=("cookie", "Idempotency-Key", "Deadline"),
                body=reference("MfaVerifyBody"),
                description="Takes the challenge of `POST /auth/login`, from the same client.",
            )
            | {"security": []}
        },
        "/auth/mfa/totp": {
            "post": _own(
                "begin_totp",
                "A secret for an authenticator app",
                {"200": content("It counts when it is confirmed", reference("TotpSecret"))},
                "ConfirmPasswordBody",
            ),
            "delete": _disabling(),
        },
        "/auth/mfa/totp/confirm": {
            "post": _own("confirm_totp", "Ask for a second factor at logins from now on", codes, "OtpBody")
        },
        "/auth/mfa/recovery-codes": {
            "post": _own("renew_recovery_codes", "Exchange all recovery codes", codes, "ConfirmPasswordBody")
        },
    }


def _own(operation_id: str, summary: str, responses: Json, body: str, parameters: tuple[str, ...] = ()) -> Json:
    return operation(
        operation_id,
        "accounts",
        summary,
        responses,
        CHANGE,
        parameters=(*parameters, "Idempotency-Key", "Deadline"),
        body=reference(body),
        description="Needs the token of a login.",
    )


def _disabling() -> Json:
    described = _own(
        "disable_totp",
        "Ask for no second factor any more",
        {"204": {"description": "Logins need the password alone"}},
        "ConfirmPasswordBody",
        ("Otp",),
    )
    return described | sent(reference("ConfirmPasswordBody"), required=False)
