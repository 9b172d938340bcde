"""Users as every service and both doors show them, and the messages of `services/user_management`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts.patterns import whole
from aidevos.contracts.roles import RoleName

TYPE = "user"
# A search over all users: `query.user.search`.
SEARCH = "search"
# The event that every verifier of tokens listens to: roles and status have changed.
ACCESS_CHANGED = f"event.{TYPE}.*.access_changed"
USERNAME_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,46}[A-Za-z0-9])?"
# An e-mail address is checked by the object; this only bounds it (RFC 5321).
EMAIL_LIMIT = 254

Username = Annotated[str, Meta(pattern=whole(USERNAME_PATTERN), description="Unique without regard to case")]
Email = Annotated[str, Meta(min_length=3, max_length=EMAIL_LIMIT, description="Unique without regard to case")]
FullName = Annotated[str, Meta(max_length=200)]
# Longer than any password that is accepted, so that the refusal can say what is.
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
Status = Literal["active", "deactivated"]
Roles = Annotated[list[RoleName], Meta(max_length=20)]


class User(msgspec.Struct, kw_only=True):
    """A user as both doors show one. `email` is null for the first administrator; `settings` are the
    user's own, of any shape; `version` is the ETag; times are RFC 3339 in UTC."""

    id: str
    username: str
    email: str | None
    full_name: str
    roles: list[str]
    status: Status
    email_verified: bool
    settings: dict[str, Any]
    version: int
    created_at: str
    updated_at: str


class RegisterBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /auth/register`, and the arguments of the method `register`."""

    username: Username
    email: Email
    password: Password
    full_name: FullName = ""


class Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What can be changed of a user: `full_name` and `settings` by itself, all of it by who has `users:manage`."""

    full_name: FullName = ""
    settings: dict[str, Any] = {}
    roles: Roles
    status: Status


class ReplaceUserBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /users/{user_id}`, and the arguments of `replace`; roles and status stay where they
    are not given."""

    full_name: FullName = ""
    settings: dict[str, Any] = {}
    roles: Roles | None = None
    status: Status | None = None


class EraseUserBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `DELETE /users/{user_id}`, and the arguments of `erase`; the password is needed for oneself."""

    password: Password | None = None


class FindUsers(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.user.search`, and the parameters of `GET /users`. `q` is a part of the
    username, the e-mail address or the full name."""

    limit: int = 50
    cursor: str | None = None
    q: Annotated[str, Meta(max_length=100, pattern=whole(r"[^\x00-\x1f]*"))] = ""
    role: RoleName | None = None
    status: Status | None = None
    sort: Literal["created_at", "-created_at", "username", "-username"] = "created_at"


class UserPage(msgspec.Struct, kw_only=True):
    items: list[User]
    next_cursor: str | None = None
