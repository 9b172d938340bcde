"""The messages of `services/authentication`, and the IDs of its objects."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.api_keys import ApiKeySummary
from aidevos.contracts.errors import Failure
from aidevos.contracts.patterns import whole
from aidevos.contracts.users import EMAIL_LIMIT, Password, User
from aidevos.contracts.webhooks import WebhookSummary

ACCOUNT_TYPE = "auth"
SESSION_TYPE = "session"
# The event that every verifier of tokens subscribes to.
SESSION_ENDED = f"event.{SESSION_TYPE}.*.session_ended"
# The longest life of an access token, and the largest difference between the machines' clocks, in seconds.
TOKEN_LIFETIME = 900.0
CLOCK_MARGIN = 60.0

LoginName = Annotated[str, Meta(min_length=1, max_length=EMAIL_LIMIT, description="A username or an e-mail address")]
Device = Annotated[str, Meta(max_length=256)]
RefreshToken = Annotated[str, Meta(min_length=1, max_length=256)]
Otp = Annotated[
    str, Meta(pattern=whole("[0-9]{6}"), description="The code that the authenticator app shows (RFC 6238)")
]
RecoveryCode = Annotated[str, Meta(min_length=1, max_length=64)]
Challenge = Annotated[
    str, Meta(min_length=1, max_length=512, description="The `challenge` of the problem `mfa-required`")
]


def account_id(name: str) -> str:
    """Return the ID of the `auth` object of a username or e-mail address, ignoring case.

    It is a hash, so that neither a log nor a tombstone names anyone.
    """
    return subjects.hashed_id(ACCOUNT_TYPE, unicodedata.normalize("NFC", name.lower()))


def session_of(refresh_token: str) -> str:
    """Return the session ID that a refresh token contains. Raises `unauthenticated`."""
    session = refresh_token.partition(".")[0]
    if not subjects.is_id(session):
        raise Failure("unauthenticated", "the refresh token is not valid; log in again")
    return session


def account_of(challenge: str) -> str:
    """Return the account ID that a challenge contains. Raises `unauthenticated`."""
    account = challenge.partition(".")[0]
    if not subjects.is_id(account):
        raise Failure("unauthenticated", "the challenge is not valid")
    return account


def enrolment_subject(session: str) -> str:
    """Return the subject of the tokens of a session whose user must set up a second factor first.

    It is no user's ID, so such a token owns nothing.
    """
    return f"enrol:{session}"


class LoginBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/login`.

    Without `otp`, an account with a second factor gets `mfa-required`.
    """

    username: LoginName
    password: Password
    otp: Otp | None = None


class MfaVerifyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/mfa/verify`: the challenge with one of the two codes."""

    challenge: Challenge
    otp: Otp | None = None
    recovery_code: RecoveryCode | None = None


class ProofBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of requests that change the second factor: the password and, if there is one, one of its codes."""

    password: Password
    otp: Otp | None = None
    recovery_code: RecoveryCode | None = None


class OtpBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/mfa/totp/confirm`."""

    otp: Otp


class TotpSecret(msgspec.Struct, kw_only=True):
    """The secret for an authenticator app: in base32, as a URI, and as an SVG QR code of that URI.

    It takes effect when the first code is confirmed.
    """

    secret: str
    uri: str
    qr_svg: str


class RecoveryCodes(msgspec.Struct, kw_only=True):
    """The recovery codes of an account; each is valid for one login without the authenticator app."""

    recovery_codes: list[str]
    note: str = (
        "These codes are shown only once. Each is valid for one login; don't keep them on the device with your app."
    )


class RefreshBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/refresh`, and the arguments of the method `refresh`."""

    refresh_token: RefreshToken


class PasswordBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/password`, and the arguments of the method `change_password`.

    With `revoke_keys`, the user's API keys and webhooks end.
    """

    current_password: Password
    new_password: Password
    revoke_keys: bool = False


class PasswordChanged(msgspec.Struct, kw_only=True):
    """The response to a change or a reset of the password.

    It lists the user's API keys and webhooks, which don't depend on the password. If `revoked` is true,
    they end now; otherwise they remain valid.
    """

    api_keys: list[ApiKeySummary] = []
    webhooks: list[WebhookSummary] = []
    revoked: bool


class TokenPair(msgspec.Struct, kw_only=True):
    """The tokens of a session; `expires_in` is the access token's life in seconds.

    If `must_enrol` is true, the access token is good for nothing but setting up a second factor. Refresh the
    tokens afterwards.
    """

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    user: User
    must_enrol: bool = False


class CookieSession(msgspec.Struct, kw_only=True):
    """The response to a login with `?cookie=true`: the tokens are in cookies that scripts can't read.

    Send `csrf_token` in the header `X-CSRF-Token` of every request that changes something. `must_enrol` is
    as in `TokenPair`.
    """

    token_type: Literal["Cookie"] = "Cookie"  # noqa: S105
    expires_in: int
    csrf_token: str
    user: User
    must_enrol: bool = False


class Session(msgspec.Struct, kw_only=True):
    """An open login.

    `device` is the name that the client gave itself. `address` is the IP address of the login, empty
    over NATS.
    """

    id: str
    device: str
    address: str
    created_at: str
    last_used_at: str
    current: bool


class SessionPage(msgspec.Struct, kw_only=True):
    items: list[Session]


class Whoami(msgspec.Struct, kw_only=True):
    """The response to `GET /auth/me`: the user that the caller is or acts for, and what the caller may do.

    After a login, `session` is its ID, and `mfa` is True if logins require a second factor. With an API key, `key` is
    its ID, and `permissions` include scopes for single resources. Without the scope `profile:self`, such a caller sees
    only the ID, the username and the roles of the user.
    """

    user: User
    permissions: list[str]
    session: str | None = None
    mfa: bool | None = None
    key: str | None = None
