"""The stored state of a user, its public view, and the search for users."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.times import rfc3339, timestamp
from aidevos.contracts.users import FindUsers, Status, User
from aidevos.queries import And, Compare, Condition, Contains, Find, Text

# Each sort order, alone and after each filter.
INDEXES = tuple((*path, order) for path in ((), ("roles",), ("status",)) for order in ("created_at", "username"))
NAMES = (("username",), ("email",), ("full_name",))


class Announced(msgspec.Struct):
    """An e-mail address that a user is about to take, and the ID of this change of address."""

    email: str
    change: str


class UserState(msgspec.Struct):
    """The state of one user. Times are in seconds since the epoch.

    `registration` is the ID of the request that created the user. Of an erased user, only `erased` is
    kept, so that the ID is never used again.
    """

    username: str = ""
    email: str | None = None
    full_name: str = ""
    roles: list[str] = []
    status: Status = "active"
    email_verified: bool = False
    announced: Announced | None = None
    settings: dict[str, Any] = {}
    created_at: float = 0.0
    updated_at: float = 0.0
    registration: str = ""
    erased: bool = False


def find(args: FindUsers) -> Find:
    """Return the store query for a search for users."""
    where: list[Condition] = [Compare(("erased",), "eq", False)]
    if args.q:
        where.append(Text(NAMES, args.q))
    if args.role is not None:
        where.append(Contains(("roles",), args.role))
    if args.status is not None:
        where.append(Compare(("status",), "eq", args.status))
    order = (args.sort.removeprefix("-"),)
    return Find(And(tuple(where)), args.limit, order, descending=args.sort.startswith("-"))


def show(id: str, state: UserState, version: int) -> User:
    """Return the user as callers see it."""
    return User(
        id=id,
        username=state.username,
        email=state.email,
        full_name=state.full_name,
        roles=state.roles,
        status=state.status,
        email_verified=state.email_verified,
        settings=state.settings,
        version=version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )
