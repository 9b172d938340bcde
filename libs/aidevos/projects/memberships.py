"""The roles of callers in projects, cached by a process that protects the objects of projects.

Promise: a role is at most `lookups.LIFE` seconds old. Non-members have no role, and neither has anyone in a deleted
project.
"""

from __future__ import annotations

from typing import Any, Protocol, cast, get_args

from aidevos.contracts import projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import Role
from aidevos.durable.base.lookups import Lookups
from aidevos.security.permissions import Principal

RANKS: dict[Role, int] = {role: rank for rank, role in enumerate(get_args(Role))}


class QueryClient(Protocol):
    """Anything that can query a view, such as an object in its turn or a view's `Reader`."""

    async def ask(self, type: str, view: str, /, **args: Any) -> Any: ...


class Memberships:
    """A cache of roles by project and user."""

    def __init__(self) -> None:
        self._roles: Lookups[Role] = Lookups()

    async def find_role(self, client: QueryClient, project: str, caller: Principal) -> Role | None:
        """Return the caller's role in a project, or None.

        A caller with `projects:manage` counts as an owner. The key of another project has no role. Raises `Failure`.
        """
        known = self.cached_role(project, caller)
        if known is not None or caller.project not in ("", project):
            return known
        user = caller.subject
        if not subjects.is_id(user):
            return None

        async def fetch() -> Role | None:
            return cast(Role | None, await client.ask(projects.TYPE, projects.ROLE, project=project, user=user))

        return await self._roles.get(f"{project}.{user}", fetch)

    def cached_role(self, project: str, caller: Principal) -> Role | None:
        """Return the caller's role if it needs no look-up, else None."""
        if caller.project not in ("", project):
            return None
        return "owner" if caller.has(projects.MANAGE) else self._roles.kept(f"{project}.{caller.subject}")


def may_maintain(role: Role | None) -> bool:
    """Return True if the role is maintainer or owner."""
    return role is not None and RANKS[role] >= RANKS["maintainer"]


def check_role(role: Role, needed: Role) -> None:
    """Raise `forbidden` if the role ranks below the needed one."""
    if RANKS[role] < RANKS[needed]:
        raise Failure("forbidden", f"this needs the role {needed} in the project, but the caller's role is {role}")
