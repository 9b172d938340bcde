"""The messages around links in mail: reset of a password, confirmation and change of an e-mail address."""

from __future__ import annotations

import zlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.authentication import account_id
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import Email, Password

# One object for each user, under the user's ID.
CONFIRMATION_TYPE = "confirmation"
# A few objects, at which whoever has forgotten a password asks for a reset.
RECOVERY_TYPE = "recovery"
RECOVERIES = 64
MAIL_TYPE = "mail"

# Where a link leads, under the public URL; the token is the URL's fragment, `#token=…`.
CONFIRM_PATH = "/auth/email/confirm"
RESET_PATH = "/auth/password/reset/confirm"

LinkToken = Annotated[str, Meta(min_length=1, max_length=512, description="As in the link of the mail")]


class Letter(msgspec.Struct, kw_only=True):
    """What a mail is made of. `nonce` names the user's link that it brings, and `until`, in seconds since
    the epoch, is when it is of no use any more. It holds no secret: the link is derived when it is sent."""

    kind: Literal["verify", "change", "change_notice", "reset"]
    to: str
    user: str
    nonce: str = ""
    until: float


class ForgottenBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/password/reset`, and the arguments of the method `request_reset`."""

    email: Email


class ResetBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/password/reset/confirm`, and the arguments of the method `reset_password`."""

    token: LinkToken
    new_password: Password


class EmailBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/email`, and the arguments of the method `change_email`."""

    password: Password
    email: Email


class ConfirmBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/email/confirm`, and the arguments of the method `confirm_email`."""

    token: LinkToken


class ConfirmedEmail(msgspec.Struct, kw_only=True):
    """The address that the user has now."""

    email: str
    email_verified: bool = True


def recovery_id(email: str) -> str:
    """The ID of the `recovery` object that is asked for this address."""
    return str(zlib.crc32(account_id(email).encode()) % RECOVERIES)


def user_of(token: str) -> str:
    """The ID of the user whom a link's token says it is for; raises `invalid`."""
    user = token.partition(".")[0]
    if not subjects.is_id(user):
        raise wrong_link()
    return user


def wrong_link() -> Failure:
    """The one answer to every token that is of no use: spent, expired, replaced, or never given out."""
    return Failure("invalid", "the link is not valid, or not any more: ask for another one", field="args.token")
