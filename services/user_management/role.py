"""A role: a named set of permissions.

Promises: callers can't create, change, delete, grant or revoke a role that allows more than they may
do themselves, so managing roles never leads to more rights. A role that users have can't be deleted.
A role that is granted while it is being deleted is revoked again: the user tells the role of the grant.
If the role is gone, or was created anew under the same name, it revokes the grant by a tell.
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
    "user": "The permissions of every registered user",
    "service": "The role of services, each of which is granted its own permissions",
}
_is_name = re.compile(NAME_PATTERN).fullmatch


class RoleState(msgspec.Struct):
    """The state of one role. Times are in seconds since the epoch.

    `since` is the object's version at which this role was created; an earlier role may have had the name.
    """

    name: str = ""
    permissions: list[str] = []
    description: str = ""
    since: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0


class Changed(Event):
    """The role's permissions have changed. After its deletion they are empty."""

    permissions: list[str]


def find(args: FindRoles) -> Find:
    """Return the store query for all roles."""
    return Find(And(()), args.limit, ("name",))


def show(id: str, state: RoleState, version: int) -> Role:
    """Return the role as callers see it."""
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
    """A named set of permissions. Its ID is its name. Built-in roles can't be changed."""

    searches = (Search(SEARCH, permission(MANAGE_ROLES) | services(), FindRoles, find, show, (("name",),)),)

    @command(allow=permission(MANAGE_ROLES))
    async def create(self, permissions: Permissions, description: Description = "") -> Role:
        """Create the role."""
        if not _is_name(self.id):
            raise Failure("invalid", f"a role's name must match {NAME_PATTERN}", field="id")
        if self.state.name or self.id in ROLES:
            raise Failure("exists", "a role of this name already exists")
        self._set(permissions, description, "role.created")
        self.state.since = self.version + 1
        return self._render(changes=1)

    @query(allow=permission(MANAGE_ROLES))
    async def read(self) -> Role:
        """Return the role."""
        self._check_exists()
        return self._render()

    @query(allow=services())
    async def show(self) -> Role:
        """Return the role to a service."""
        self._check_exists()
        return self._render()

    @command(allow=permission(MANAGE_ROLES))
    async def replace(self, permissions: Permissions, description: Description = "") -> Role:
        """Replace the role's permissions and description. This affects all its users at once."""
        self._check_changeable()
        self._set(permissions, description, "role.replaced")
        return self._render(changes=1)

    @command(allow=permission(MANAGE_ROLES))
    async def remove(self) -> None:
        """Delete the role. Raises `conflict` while a user has it."""
        self._check_changeable()
        found = await self.ask(users.TYPE, users.SEARCH, role=self.id, limit=1)
        if found["items"]:
            raise Failure("conflict", "users have this role; take it from them first")
        self.emit(Changed([]))
        record(self, "role.deleted", target=self.id)
        await self.delete()

    @command(allow=services())
    async def hold(self, user: str, version: int) -> None:
        """Revoke the role from a user who was granted it at this version, if that role is gone."""
        if not self.state.name or version < self.state.since:
            self.tell(users.TYPE, user, "lose_role", role=self.id)
        if not self.state.name:
            # Without the deletion, this tell would leave an empty object behind.
            await self.delete()

    @command(allow=services())
    async def install(self) -> None:
        """Create or update the built-in role of this name."""
        if self.id not in ROLES:
            raise Failure("invalid", "this is not the name of a built-in role", field="id")
        permissions = sorted(ROLES[self.id])
        if self.state.permissions != permissions or not self.state.name:
            created_at = self.state.created_at or self.now
            self.state = RoleState(self.id, permissions, DESCRIPTIONS[self.id], 0, created_at, self.now)

    def _set(self, permissions: list[str], description: str, action: str) -> None:
        wanted = sorted(set(permissions))
        check_grant(self.caller, wanted, field="args.permissions")
        state = self.state
        self.state = RoleState(self.id, wanted, description, state.since, state.created_at or self.now, self.now)
        self.emit(Changed(wanted))
        record(self, action, target=self.id)

    def _check_changeable(self) -> None:
        if self.id in ROLES:
            raise Failure("conflict", f"the built-in role {self.id} can't be changed")
        self._check_exists()
        check_grant(self.caller, self.state.permissions)

    def _check_exists(self) -> None:
        if not self.state.name:
            raise Failure("not-found", "this role doesn't exist")

    def _render(self, changes: int = 0) -> Role:
        return show(self.id, self.state, self.version + changes)


async def load_role(object: BaseDurableObject[Any], name: str) -> Role | None:
    """Return the role of this name, or None if users can't have such a role. `object` makes the call."""
    if name == "service":
        return None
    try:
        return msgspec.convert(await object.call(TYPE, name, "show"), Role)
    except Failure as failure:
        if failure.code != "not-found":
            raise
        return None
