"""The part of the API's description that is about links in mail."""

from __future__ import annotations

from aidevos.contracts import confirmation

from .openapi_parts import CHANGE, Json, content, operation, reference, schemas_of

ACCOUNTS = "accounts"
OPEN_CALL = (400, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504)
ACCEPTED = {"202": {"description": "If there is something to mail, it is being mailed"}}
CHANGED = {"204": {"description": "Changed; every session ends"}}
PAGE = {"200": {"description": "A page with a button", "content": {"text/html": {"schema": {"type": "string"}}}}}


def schemas() -> Json:
    return schemas_of(
        confirmation.ConfirmBody,
        confirmation.ConfirmedEmail,
        confirmation.EmailBody,
        confirmation.ForgottenBody,
        confirmation.ResetBody,
    )


def paths() -> Json:
    return {
        "/auth/password/reset": {
            "post": _open("forgot_password", "Have a link to a new password mailed", ACCEPTED, "ForgottenBody")
            | {"description": "The answer is the same whether anybody has the address or not."}
        },
        confirmation.RESET_PATH: {
            "get": _page("show_reset_page"),
            "post": _open("reset_password", "Use the link: take another password", CHANGED, "ResetBody"),
        },
        "/auth/email": {
            "post": operation(
                "change_email",
                ACCOUNTS,
                "Have a link mailed to another address that makes it one's own",
                ACCEPTED,
                CHANGE,
                parameters=("Idempotency-Key", "Deadline"),
                body=reference("EmailBody"),
                description="The address changes when the link is used; the present one is told at once.",
            )
        },
        "/auth/email/verify": {
            "post": operation(
                "verify_email",
                ACCOUNTS,
                "Have a link mailed that confirms one's own address",
                ACCEPTED,
                CHANGE,
                parameters=("Idempotency-Key", "Deadline"),
            )
        },
        confirmation.CONFIRM_PATH: {
            "get": _page("show_confirm_page"),
            "post": _open(
                "confirm_email",
                "Use the link: confirm the address",
                {"200": content("The user's address", reference("ConfirmedEmail"))},
                "ConfirmBody",
            ),
        },
    }


def _open(operation_id: str, summary: str, responses: Json, body: str) -> Json:
    described = operation(
        operation_id,
        ACCOUNTS,
        summary,
        responses,
        OPEN_CALL,
        parameters=("Idempotency-Key", "Deadline"),
        body=reference(body),
    )
    return described | {"security": []}


def _page(operation_id: str) -> Json:
    described = operation(
        operation_id, ACCOUNTS, "The page that a link in a mail leads to", PAGE, (400, 404, 405, 422, 500, 503)
    )
    return described | {"security": []}
