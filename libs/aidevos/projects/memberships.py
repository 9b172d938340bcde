"""What callers are in projects, as a process that guards something of a project knows it.

Promise: what is answered stood in the project less than `lookups.LIFE` seconds ago. Who is no member,
and everybody after the project's end, is nobody there.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, get_args

from aidevos.contracts import projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import Role
from aidevos.durable.base.lookups import Lookups
from aidevos.security.permissions import Principal

RANKS: dict[Role, int] = {role: rank for rank, role in enumerate(get_args(Role))}


class Asker(Protocol):
    """A turn's object, or what a view reads with."""

    async def ask(self, type: str, view: str, /, **args: Any) -> Any: ...


class Memberships:
    """Roles by project and user."""

    def __init__(self) -> None:
        self._roles: Lookups[Role] = Lookups()

    async def role(self, asker: Asker, project: str, caller: Principal) -> Role | None:
        """What the caller is in a project; who manages projects is an owner of each, and a key that counts
        in another one nobody."""
        known = self.known(project, caller)
        if known is not None or caller.project not in ("", project):
            return known
        user = caller.subject
        if not subjects.is_id(user):
            return None

        async def fetch() -> Role | None:
            return cast(Role | None, await asker.ask(projects.TYPE, projects.ROLE, project=project, user=user))

        return await self._roles.get(f"{project}.{user}", fetch)

    def known(self, project: str, caller: Principal) -> Role | None:
        """What the caller is in a project, if that can be said at once."""
        if caller.project not in ("", project):
            return None
        return "owner" if caller.has(projects.MANAGE) else self._roles.kept(f"{project}.{caller.subject}")


def leads(role: Role | None) -> bool:
    """Whether the role lets its holder change what the project has."""
    return role is not None and RANKS[role] >= RANKS["maintainer"]


def check_role(role: Role, needed: Role) -> None:
    """Raises `forbidden` for a role that may do less than the one that is needed."""
    if RANKS[role] < RANKS[needed]:
        raise Failure("forbidden", f"this needs the role {needed} in the project, and the caller's is {role}")
