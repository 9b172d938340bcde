"""Who is let in to an object that belongs to a project.

Promise: beside what a method asks for, its callers are members of the project, by what stood there a moment
ago: viewers for queries, maintainers and owners for commands. For others there is no such object. Services and
who manages projects pass. An API key that counts in one project alone reaches no object outside of it. What
belongs to no project costs nothing, and nobody else waits while somebody's role is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from aidevos.contracts import objects, projects, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.request import Request
from aidevos.projects.memberships import Memberships, check_role
from aidevos.security.permissions import Principal

if TYPE_CHECKING:
    from aidevos.durable.ownership.router import DurableObjectRouter

LOOK_UP_WITHIN = 5.0


class ProjectGate:
    def __init__(self, router: DurableObjectRouter) -> None:
        self._router = router
        self._memberships = Memberships()

    def admits(self, activation: Activation, request: Request) -> bool:
        """Whether the turn may begin now; where not, the request comes again once its caller's role is known.
        Raises `forbidden` or `not-found`."""
        caller, project = request.principal, activation.project
        if caller.is_service:
            return True
        makes = request.method.name == objects.CREATE and not activation.exists
        if caller.project not in ("", project) and not (makes or activation.type.cls.judges_projects):
            raise Failure("forbidden", "this API key counts in its project alone")
        if project is None:
            return True
        known, role = request.role
        if known != project:
            role = self._memberships.known(project, caller)
            if role is None:
                self._router.spawn(self._look_up(project, request))
                return False
        if role is None:
            raise Failure("not-found", f"there is no object {activation.object_id}")
        check_role(role, "maintainer" if request.method.is_command else "viewer")
        return True

    async def _look_up(self, project: str, request: Request) -> None:
        try:
            request.role = (project, await self._memberships.role(self, project, request.principal))
        except Failure as failure:
            request.fail(failure)
            return
        self._router.route_again(request)

    async def place_of(self, caller: Principal, project: str | None) -> str | None:
        """What a list of objects shows to a caller who asks for those of a project, or for no project: None
        for all, empty for those that belong to none, else a project's. Raises `not-found`."""
        wanted = project or caller.project
        if caller.is_service or (caller.has(projects.MANAGE) and not caller.project):
            return wanted or None
        if wanted and await self._memberships.role(self, wanted, caller) is None:
            raise Failure("not-found", "there is no such project")
        return wanted

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        subject = subjects.query(type, view)
        reply = await self._router.outside.request(subject, msgspec.json.encode(args), deadline=LOOK_UP_WITHIN)
        return msgspec.json.decode(reply)
