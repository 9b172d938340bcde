"""The messages about mailed links: password resets, and confirmations and changes of an e-mail address."""

from __future__ import annotations

import zlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.authentication import PasswordChanged, account_id
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import Email, Password

# One object for each user, under the user's ID.
CONFIRMATION_TYPE = "confirmation"
# A fixed set of objects that take the requests for password resets.
RECOVERY_TYPE = "recovery"
RECOVERIES = 64
MAIL_TYPE = "mail"

# The paths of links under the public URL; the token is the URL's fragment, `#token=…`.
CONFIRM_PATH = "/auth/email/confirm"
RESET_PATH = "/auth/password/reset/confirm"

LinkToken = Annotated[str, Meta(min_length=1, max_length=512, description="The token in the mailed link")]


class Letter(msgspec.Struct, kw_only=True):
    """The data of a mail, without a secret: the link is derived when the mail is sent.

    `nonce` identifies the user's link. The mail is useless after `until`, in seconds since the epoch.
    """

    kind: Literal["verify", "change", "change_notice", "reset", "password_notice"]
    to: str
    user: str
    nonce: str = ""
    until: float
    changed: PasswordChanged | None = None


class ForgottenBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/password/reset`, and the arguments of the method `request_reset`."""

    email: Email


class ResetBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/password/reset/confirm`, and the arguments of the method `reset_password`."""

    token: LinkToken
    new_password: Password
    revoke_keys: bool = True


class EmailBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/email`, and the arguments of the method `change_email`."""

    password: Password
    email: Email


class ConfirmBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/email/confirm`, and the arguments of the method `confirm_email`."""

    token: LinkToken


class ConfirmedEmail(msgspec.Struct, kw_only=True):
    """The user's new e-mail address."""

    email: str
    email_verified: bool = True


def recovery_id(email: str) -> str:
    """Return the ID of the `recovery` object that is responsible for this address."""
    return str(zlib.crc32(account_id(email).encode()) % RECOVERIES)


def user_of(token: str) -> str:
    """Return the user ID that a link's token contains. Raises `invalid`."""
    user = token.partition(".")[0]
    if not subjects.is_id(user):
        raise wrong_link()
    return user


def wrong_link() -> Failure:
    """Return the one failure for every useless token: used, expired, replaced or never issued."""
    return Failure("invalid", "the link is invalid or no longer valid: request another one", field="args.token")
