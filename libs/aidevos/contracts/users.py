"""Users as both entry points show them, and the messages of `services/user_management`."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts.patterns import whole
from aidevos.contracts.roles import RoleName

TYPE = "user"
# The search over all users: `query.user.search`.
SEARCH = "search"
# The event that every verifier of tokens subscribes to: roles or status have changed.
ACCESS_CHANGED = f"event.{TYPE}.*.access_changed"
# The permission of an API key to see and change its user's profile.
OWN_PROFILE = "profile:self"
USERNAME_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,46}[A-Za-z0-9])?"
# The largest length of an e-mail address (RFC 5321); the object checks the rest.
EMAIL_LIMIT = 254

Username = Annotated[str, Meta(pattern=whole(USERNAME_PATTERN), description="Unique without regard to case")]
Email = Annotated[str, Meta(min_length=3, max_length=EMAIL_LIMIT, description="Unique without regard to case")]
FullName = Annotated[str, Meta(max_length=200)]
# Longer than any accepted password, so that the object's refusal can state the rules.
Password = Annotated[str, Meta(min_length=1, max_length=1024)]
Status = Literal["active", "deactivated"]
Roles = Annotated[list[RoleName], Meta(max_length=20)]


def administrator_id(username: str) -> str:
    """Return the ID of the first administrator with this name."""
    return hashlib.sha256(f"administrator:{username.lower()}".encode()).hexdigest()[:32]


class User(msgspec.Struct, kw_only=True):
    """A user as both entry points show it.

    `email` is null for the first administrator. `settings` belong to the user and may have any shape.
    `version` is the ETag. Times are RFC 3339 in UTC.
    """

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


class CreateUserBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /users`, and the arguments of the method `create`.

    Without `password`, the user gets a mail with a link that sets one. Without `roles`, the user has the role `user`.
    """

    username: Username
    email: Email
    password: Password | None = None
    full_name: FullName = ""
    roles: Roles | None = None


class Profile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of a user that can be changed.

    Users may change their own `full_name` and `settings`; all fields require `users:manage`.
    """

    full_name: FullName = ""
    settings: dict[str, Any] = {}
    roles: Roles
    status: Status


class ReplaceUserBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /users/{user_id}`, and the arguments of `replace`.

    Roles and status stay unchanged if they are missing.
    """

    full_name: FullName = ""
    settings: dict[str, Any] = {}
    roles: Roles | None = None
    status: Status | None = None


class EraseUserBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `DELETE /users/{user_id}`, and the arguments of `erase`.

    Users who delete themselves must send their password.
    """

    password: Password | None = None


class FindUsers(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.user.search`, and the parameters of `GET /users`.

    `q` is part of the username, the e-mail address or the full name.
    """

    limit: int = 50
    cursor: str | None = None
    q: Annotated[str, Meta(max_length=100, pattern=whole(r"[^\x00-\x1f]*"))] = ""
    role: RoleName | None = None
    status: Status | None = None
    sort: Literal["created_at", "-created_at", "username", "-username"] = "created_at"


class UserPage(msgspec.Struct, kw_only=True):
    items: list[User]
    next_cursor: str | None = None
