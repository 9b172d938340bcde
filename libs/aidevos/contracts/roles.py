"""Roles as sets of permissions, as both entry points show them, and the messages of the type `role`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.patterns import whole

TYPE = "role"
# The search over all roles, sorted by name.
SEARCH = "search"
LIST_SUBJECT = subjects.query(TYPE, SEARCH)
# The event that every verifier of tokens subscribes to: the role's permissions have changed.
CHANGED = f"event.{TYPE}.*.changed"

NAME_PATTERN = r"[a-z][a-z0-9_-]{0,47}"
PERMISSION_PATTERN = r"[a-z][a-z0-9_]{0,47}:[a-z][a-z0-9_]{0,47}"
MAX_PERMISSIONS = 200

RoleName = Annotated[str, Meta(pattern=whole(NAME_PATTERN))]
Permission = Annotated[str, Meta(pattern=whole(PERMISSION_PATTERN), description="`<type>:<verb>`")]
Permissions = Annotated[list[Permission], Meta(max_length=MAX_PERMISSIONS)]
Description = Annotated[str, Meta(max_length=500)]


class Role(msgspec.Struct, kw_only=True):
    """A role as both entry points show it.

    Roles that are `builtin` can't be changed. Only `admin` allows everything (`*`). `version` is the
    ETag; times are RFC 3339 in UTC.
    """

    name: str
    permissions: list[str]
    description: str
    builtin: bool
    version: int
    created_at: str
    updated_at: str


class CreateRoleBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /roles`."""

    name: RoleName
    permissions: Permissions
    description: Description = ""


class ReplaceRoleBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /roles/{name}`, and the arguments of `create` and `replace`."""

    permissions: Permissions
    description: Description = ""


class FindRoles(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.role.search`, and the parameters of `GET /roles`."""

    limit: int = 50
    cursor: str | None = None


class RolePage(msgspec.Struct, kw_only=True):
    items: list[Role]
    next_cursor: str | None = None
