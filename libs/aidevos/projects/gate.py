"""Who is let in to an object that belongs to a project.

Promise: beside what a method asks for, its callers are members of the project, by what stood there a moment
ago: viewers for queries, maintainers and owners for commands. For others there is no such object. Services and
callers who manage projects pass. An API key that counts in one project alone reaches no object outside of it. What
belongs to no project costs nothing, and nobody else waits while somebody's role is looked up.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import objects, projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import CREATE, DELETE, LIST, READ, REPLACE
from aidevos.contracts.projects import Role
from aidevos.durable.client.client import ObjectCaller
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.request import Request
from aidevos.durable.turns.turn import Turn
from aidevos.projects.memberships import Memberships, check_role
from aidevos.security.permissions import Principal

LOOK_UP_WITHIN = 5.0
# What the framework itself offers for each object.
MANAGEMENT = frozenset({CREATE, READ, REPLACE, DELETE, LIST})


class Membership(NamedTuple):
    """What a caller is in a project, as it was looked up for one request."""

    project: str
    role: Role | None


class ProjectGate:
    """Admits members to the objects of their projects. Roles are looked up through `client`, as the process."""

    def __init__(self, client: ObjectCaller) -> None:
        self._client = client
        self._memberships = Memberships()

    def check_call(self, caller: Principal, type: ObjectType, method: str) -> None:
        """Raise `forbidden` for a key that counts in one project alone where a type decides itself what such keys
        reach: the framework's own methods are not for them."""
        if caller.project and type.cls.project_aware and method in MANAGEMENT:
            raise _confined()

    def check_query(self, caller: Principal, type: ObjectType, name: str) -> None:
        """Raise `forbidden` for a key that counts in one project alone, unless the type decides itself."""
        self.check_call(caller, type, name)
        if caller.project and name != LIST and not type.cls.project_aware:
            raise _confined()

    def applies_to(self, activation: Activation, request: Request) -> bool:
        """True if the object belongs to a project, or the caller's key does."""
        caller = request.principal
        return (activation.project is not None or caller.project != "") and not caller.is_service

    def admit(self, activation: Activation, request: Request) -> Awaitable[None] | None:
        """Let the turn begin, or return the look-up of the caller's role. Raises `forbidden` or `not-found`."""
        caller, project = request.principal, activation.project
        creates = request.method.name == objects.CREATE and not activation.exists
        if caller.project not in ("", project) and not (creates or activation.type.cls.project_aware):
            raise _confined()
        if project is None:
            return None
        membership = request.membership
        if not isinstance(membership, Membership) or membership.project != project:
            known = self._memberships.known(project, caller)
            if known is None:
                return self._look_up(project, request)
            membership = Membership(project, known)
        if membership.role is None:
            raise Failure("not-found", f"there is no object {activation.object_id}")
        check_role(membership.role, "maintainer" if request.method.is_command else "viewer")
        return None

    def needs_document(self, request: Request) -> bool:
        """True for a key that counts in one project alone: only the document tells whether that is the right one."""
        return bool(request.principal.project) and not request.type.cls.project_aware

    async def join(self, turn: Turn, project: str | None) -> None:
        """Let the object that the turn creates belong to a project, whose maintainer or owner the caller is. Raises
        `invalid` or `forbidden`."""
        caller = turn.caller
        if project is None:
            if caller.project:
                raise Failure("forbidden", _CONFINED, field="args.project")
            return
        if not caller.is_service:
            role = await self._memberships.role(self, project, caller)
            if role is None:
                raise Failure("invalid", "there is no such project", field="args.project")
            check_role(role, "maintainer")
        turn.effects.project = project
        activation = turn.activation
        turn.tell(projects.TYPE, project, "confirm", {"type": activation.type.name, "id": activation.id})

    async def visible_project(self, caller: Principal, project: str | None) -> str | None:
        """Return the project whose objects a list shows, the empty string for those of no project, or None for all
        objects. Raises `not-found`."""
        wanted = project or caller.project
        if caller.is_service or (caller.has(projects.MANAGE) and not caller.project):
            return wanted or None
        if wanted and await self._memberships.role(self, wanted, caller) is None:
            raise Failure("not-found", "there is no such project")
        return wanted

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """Return the answer of a view; raises `Failure`."""
        subject = subjects.query(type, view)
        reply = await self._client.request(subject, msgspec.json.encode(args), deadline=LOOK_UP_WITHIN)
        return msgspec.json.decode(reply)

    async def _look_up(self, project: str, request: Request) -> None:
        request.membership = Membership(project, await self._memberships.role(self, project, request.principal))


_CONFINED = "this API key counts in its project alone"


def _confined() -> Failure:
    return Failure("forbidden", _CONFINED)
