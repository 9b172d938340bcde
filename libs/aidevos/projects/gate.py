"""The gate that admits callers to the objects of projects.

Promise: in addition to a method's own rule, a caller must be a member of the object's project: any member for
queries, a maintainer or owner for commands. A role is at most a few seconds old. To everyone else the object doesn't
exist. Services and callers with `projects:manage` are admitted. An API key of one project reaches no object outside
it. Objects without a project cost nothing, and no other request waits while a role is looked up.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple

from aidevos.contracts import objects, projects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import (
    CHECK,
    COMPARE,
    CREATE,
    DELETE,
    EXPORT,
    HIBERNATE,
    LIST,
    LOAD,
    MIGRATE,
    OLDER,
    PENDING,
    READ,
    READ_VERSION,
    REPLACE,
    RESTORE,
    VERSIONS,
)
from aidevos.contracts.projects import Role
from aidevos.durable.client.client import ObjectCaller, send_query
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.turn import Turn
from aidevos.projects.memberships import Memberships, check_role
from aidevos.security.permissions import Principal

LOOK_UP_WITHIN = 5.0
# The methods that the framework itself offers for every object.
MANAGEMENT = frozenset(
    {CREATE, READ, REPLACE, DELETE, LIST, VERSIONS, READ_VERSION, COMPARE, RESTORE, PENDING, HIBERNATE}
    | {EXPORT, OLDER, LOAD, CHECK, MIGRATE}
)


class Membership(NamedTuple):
    """The role of a caller in a project, as it was looked up for one request; None for non-members."""

    project: str
    role: Role | None


class ProjectGate:
    """Admits members to the objects of their projects. `client` looks up roles on behalf of the process."""

    def __init__(self, client: ObjectCaller) -> None:
        self._client = client
        self._memberships = Memberships()

    def check_call(self, caller: Principal, type: ObjectType, method: str) -> None:
        """Raise `forbidden` if a project's key calls one of the framework's methods on a project-aware type.

        Such a type decides itself what the keys of a project reach.
        """
        if caller.project and type.cls.project_aware and method in MANAGEMENT:
            raise _outside_project()

    def check_query(self, caller: Principal, type: ObjectType, name: str) -> None:
        """Raise `forbidden` for the key of a project, except for a list, or a query of a project-aware type."""
        self.check_call(caller, type, name)
        if caller.project and name != LIST and not type.cls.project_aware:
            raise _outside_project()

    def applies_to(self, activation: Activation, request: Request) -> bool:
        """Return True if the object or the caller's key belongs to a project, and the caller is not a service."""
        caller = request.principal
        return (activation.project is not None or caller.project != "") and not caller.is_service

    def admit(self, activation: Activation, request: Request) -> Awaitable[None] | None:
        """Return None to admit the request, or the look-up of the caller's role. Raises `forbidden` or `not-found`."""
        caller, project = request.principal, activation.project
        creates = request.method.name == objects.CREATE and not activation.exists
        if caller.project not in ("", project) and not (creates or activation.type.cls.project_aware):
            raise _outside_project()
        if project is None:
            return None
        membership = request.membership
        if not isinstance(membership, Membership) or membership.project != project:
            known = self._memberships.cached_role(project, caller)
            if known is None:
                return self._look_up(project, request)
            membership = Membership(project, known)
        if membership.role is None:
            raise Failure("not-found", f"there is no object {activation.object_id}")
        check_role(membership.role, "maintainer" if request.method.is_command else "viewer")
        return None

    def needs_document(self, request: Request) -> bool:
        """Return True for the key of a project, because only the document names the object's project."""
        return bool(request.principal.project) and not request.type.cls.project_aware

    async def join(self, turn: Turn, project: str | None) -> None:
        """Assign the object that the turn creates to a project, of which the caller must be maintainer or owner.

        Raises `invalid` if the project doesn't exist or the caller is not a member, and `forbidden`.
        """
        caller = turn.caller
        if project is None:
            if caller.project:
                raise Failure("forbidden", _OUTSIDE_PROJECT, field="args.project")
            return
        if not caller.is_service:
            role = await self._memberships.find_role(self, project, caller)
            if role is None:
                raise Failure("invalid", "this project doesn't exist", field="args.project")
            check_role(role, "maintainer")
        turn.effects.project = project
        activation = turn.activation
        turn.tell(projects.TYPE, project, "confirm", {"type": activation.type.name, "id": activation.id})

    async def visible_project(self, caller: Principal, project: str | None) -> str | None:
        """Return the project whose objects a list shows, an empty string for no project, or None for all objects.

        Raises `not-found` if the caller is not a member of the project.
        """
        wanted = project or caller.project
        if caller.is_service or (caller.has(projects.MANAGE) and not caller.project):
            return wanted or None
        if wanted and await self._memberships.find_role(self, wanted, caller) is None:
            raise Failure("not-found", "this project doesn't exist")
        return wanted

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """Return the answer of a view; raises `Failure`."""
        return await send_query(self._client, type, view, args, deadline=LOOK_UP_WITHIN)

    async def _look_up(self, project: str, request: Request) -> None:
        request.membership = Membership(project, await self._memberships.find_role(self, project, request.principal))


_OUTSIDE_PROJECT = "this API key is valid only in its own project"


def _outside_project() -> Failure:
    return Failure("forbidden", _OUTSIDE_PROJECT)
