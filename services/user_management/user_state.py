"""What is kept of a user, what is shown of it, and how users are found."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.times import rfc3339, timestamp
from aidevos.contracts.users import FindUsers, Status, User
from aidevos.queries import And, Compare, Condition, Contains, Find, Text

# By each order, alone and after each of the filters.
INDEXES = tuple((*path, order) for path in ((), ("roles",), ("status",)) for order in ("created_at", "username"))
NAMES = (("username",), ("email",), ("full_name",))


class Announced(msgspec.Struct):
    """An e-mail address that a user is about to take, and which change of it this is."""

    email: str
    change: str


class UserState(msgspec.Struct):
    """`registration` is the request that made the user; times are in seconds since the epoch. Of a user
    who was erased nothing is left but that: the ID is never used again."""

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
    """What the store is asked for a search."""
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
    """The user as it is shown."""
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
