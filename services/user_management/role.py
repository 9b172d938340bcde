"""A role: a named set of permissions, and who may decide about it.

Promises: nobody makes, changes, deletes, gives or takes a role that allows more than they may
themselves, so managing roles is no way to more rights. A role that users have can't be deleted. One
that is given while it is deleted is taken back: its user tells the role, and a role that is gone, or
is another one of the same name, answers by a tell.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Event, Failure, command, permission, query, services
from aidevos.contracts import users
from aidevos.contracts.roles import NAME_PATTERN, SEARCH, TYPE, Description, FindRoles, Permissions, Role
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.queries import And, Find, Search
from aidevos.security.audit import record
from aidevos.security.permissions import ROLES

from .rules import check_grant

MANAGE_ROLES = "roles:manage"
DESCRIPTIONS = {
    "admin": "Everything",
    "user": "What everyone may do who registers",
    "service": "What services are; what each may do is given to it",
}
_is_name = re.compile(NAME_PATTERN).fullmatch


class RoleState(msgspec.Struct):
    """`since` is the object's version that began with this role; times are in seconds since the epoch."""

    name: str = ""
    permissions: list[str] = []
    description: str = ""
    since: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


class Changed(Event):
    """What the role allows from now on; nothing, when it is deleted."""

    permissions: list[str]


def find(args: FindRoles) -> Find:
    """What the store is asked for a search: all roles."""
    return Find(And(()), args.limit, ("name",))


def show(id: str, state: RoleState, version: int) -> Role:
    """The role as it is shown."""
    return Role(
        name=state.name,
        permissions=state.permissions,
        description=state.description,
        builtin=state.name in ROLES,
        version=version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )


class RoleDO(BaseDurableObject[RoleState], type=TYPE, management="read_only"):
    """A named set of permissions. Its ID is its name; those that are built in can't be changed."""

    searches = (Search(SEARCH, permission(MANAGE_ROLES) | services(), FindRoles, find, show, (("name",),)),)

    @command(allow=permission(MANAGE_ROLES))
    async def create(self, permissions: Permissions, description: Description = "") -> Role:
        """Make the role."""
        if not _is_name(self.id):
            raise Failure("invalid", f"a role's name matches {NAME_PATTERN}", field="id")
        if self.state.name or self.id in ROLES:
            raise Failure("exists", "there is a role of this name")
        self._set(permissions, description, "role.created")
        self.state.since = self.version + 1
        return self._shown(changes=1)

    @query(allow=permission(MANAGE_ROLES))
    async def read(self) -> Role:
        """The role."""
        self._check_exists()
        return self._shown()

    @query(allow=services())
    async def show(self) -> Role:
        """The role, for services."""
        self._check_exists()
        return self._shown()

    @command(allow=permission(MANAGE_ROLES))
    async def replace(self, permissions: Permissions, description: Description = "") -> Role:
        """Let the role allow something else, at once for all who have it."""
        self._check_changeable()
        self._set(permissions, description, "role.replaced")
        return self._shown(changes=1)

    @command(allow=permission(MANAGE_ROLES))
    async def remove(self) -> None:
        """Delete the role, which no user may have."""
        self._check_changeable()
        found = await self.ask(users.TYPE, users.SEARCH, role=self.id, limit=1)
        if found["items"]:
            raise Failure("conflict", "users have this role; take it from them first")
        self.emit(Changed([]))
        record(self, "role.deleted", target=self.id)
        await self.delete()

    @command(allow=services())
    async def hold(self, user: str, version: int) -> None:
        """Learn that a user was given the role as it was at this version, and take it back if it is gone."""
        if not self.state.name or version < self.state.since:
            self.tell(users.TYPE, user, "lose_role", role=self.id)
        if not self.state.name:
            # A turn that only returned would make an object.
            await self.delete()

    @command(allow=services())
    async def install(self) -> None:
        """Be the built-in role of this name."""
        if self.id not in ROLES:
            raise Failure("invalid", "no such role is built in", field="id")
        permissions = sorted(ROLES[self.id])
        if self.state.permissions != permissions or not self.state.name:
            made = self.state.created_at or self.now
            self.state = RoleState(self.id, permissions, DESCRIPTIONS[self.id], 0, made, self.now)

    def _set(self, permissions: list[str], description: str, action: str) -> None:
        wanted = sorted(set(permissions))
        check_grant(self.caller, wanted, field="args.permissions")
        state = self.state
        self.state = RoleState(self.id, wanted, description, state.since, state.created_at or self.now, self.now)
        self.emit(Changed(wanted))
        record(self, action, target=self.id)

    def _check_changeable(self) -> None:
        if self.id in ROLES:
            raise Failure("conflict", f"the role {self.id} is built in")
        self._check_exists()
        check_grant(self.caller, self.state.permissions)

    def _check_exists(self) -> None:
        if not self.state.name:
            raise Failure("not-found", "there is no such role")

    def _shown(self, changes: int = 0) -> Role:
        return show(self.id, self.state, self.version + changes)


async def role_of(object: BaseDurableObject[Any], name: str) -> Role | None:
    """The role of this name that users may have, as it is now."""
    if name == "service":
        return None
    try:
        return msgspec.convert(await object.call(TYPE, name, "show"), Role)
    except Failure as failure:
        if failure.code != "not-found":
            raise
        return None
