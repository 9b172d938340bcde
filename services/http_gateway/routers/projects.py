"""`/projects` and `/tasks`. Each request is one call of an object; no rule lives here."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.routing import Route

from aidevos.contracts import projects, subjects, tasks
from aidevos.contracts.errors import Failure
from aidevos.contracts.projects import MemberBody, ProjectBody, RenewBody
from aidevos.contracts.tasks import CreateTaskBody

from .. import bodies, parameters
from ..answers import Answer
from ..calls import Calls
from ..resource import Guard, Incoming, Resource
from ..versions import unless_known, versioned

ME = "me"
PROJECT_LIMIT = 64 * 1024
# Beside the payload.
TASK_LIMIT = tasks.PAYLOAD_LIMIT + 16 * 1024

_project = msgspec.json.Decoder(ProjectBody)
_member = msgspec.json.Decoder(MemberBody)
_renewal = msgspec.json.Decoder(RenewBody)
_task = msgspec.json.Decoder(CreateTaskBody)
_patch = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ProjectRouter:
    """`/projects`, their members and tasks, and `/tasks/{task_id}`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def routes(self, known: Guard) -> list[Route]:
        finding = ("limit", "cursor", "q", "member", "sort")
        listing = ("limit", "cursor", "status", "kind", "sort")
        project = "/projects/{project_id}"
        return [
            Route("/projects", Resource(known, parameters=finding, get=self.search, post=self.create)),
            Route(
                project,
                Resource(known, get=self.read, put=self.replace, patch=self.patch, delete=self.delete),
            ),
            Route(f"{project}/members", Resource(known, get=self.members)),
            Route(f"{project}/members/{{user_id}}", Resource(known, put=self.set_member, delete=self.remove_member)),
            Route(f"{project}/webhook-secret", Resource(known, post=self.webhook_secret)),
            Route(f"{project}/tasks", Resource(known, parameters=listing, get=self.tasks, post=self.create_task)),
            Route(
                "/tasks/{task_id}",
                Resource(known, get=self.read_task, patch=self.patch_task, delete=self.delete_task),
            ),
            Route("/tasks/{task_id}/cancel", Resource(known, post=self.cancel_task)),
            Route("/tasks/{task_id}/retry", Resource(known, post=self.retry_task)),
        ]

    async def search(self, incoming: Incoming) -> Answer:
        wanted: dict[str, Any] = {**incoming.parameters, "limit": parameters.limit(incoming.parameters)}
        if wanted.get("member") == ME:
            wanted["member"] = incoming.principal.subject
        subject = subjects.query(projects.TYPE, projects.SEARCH)
        options = self._calls.options(incoming)
        return Answer(200, await self._calls.arguments(subject, msgspec.json.encode(wanted), options))

    async def create(self, incoming: Incoming) -> Answer:
        body = await incoming.body(PROJECT_LIMIT)
        bodies.decode(_project, body, "settings")
        options = self._calls.options(incoming)
        id = self._calls.new_id(incoming, projects.TYPE)
        reply = await self._calls.arguments(subjects.call(projects.TYPE, id, "create"), body, options)
        return versioned(reply, 201, (b"location", f"/projects/{id}".encode()))

    async def read(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._project(incoming, "read")))

    async def replace(self, incoming: Incoming) -> Answer:
        body = await incoming.body(PROJECT_LIMIT)
        bodies.decode(_project, body, "settings")
        return versioned(await self._project(incoming, "replace", body))

    async def patch(self, incoming: Incoming) -> Answer:
        payload = await _patched(incoming, PROJECT_LIMIT, "settings")
        return versioned(await self._project(incoming, "patch", payload, within="args.patch"))

    async def delete(self, incoming: Incoming) -> Answer:
        return Answer(202, await self._project(incoming, "delete"))

    async def members(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._project(incoming, "members")))

    async def set_member(self, incoming: Incoming) -> Answer:
        role = bodies.decode(_member, await incoming.body(PROJECT_LIMIT), "body").role
        payload = msgspec.json.encode({"user_id": _user(incoming), "role": role})
        return versioned(await self._project(incoming, "set_member", payload))

    async def remove_member(self, incoming: Incoming) -> Answer:
        await self._project(incoming, "remove_member", msgspec.json.encode({"user_id": _user(incoming)}))
        return Answer(204, headers=())

    async def webhook_secret(self, incoming: Incoming) -> Answer:
        renew = bodies.decode(_renewal, await incoming.body(PROJECT_LIMIT), "body").renew
        payload = msgspec.json.encode({"renew": renew})
        return Answer(200, await self._project(incoming, "webhook_secret", payload))

    async def tasks(self, incoming: Incoming) -> Answer:
        payload = parameters.page(incoming.parameters)
        return Answer(200, await self._project(incoming, "tasks", payload))

    async def create_task(self, incoming: Incoming) -> Answer:
        body = bodies.decode(_task, await incoming.body(TASK_LIMIT), "payload")
        payload = msgspec.json.encode({**msgspec.structs.asdict(body), "project": _id(incoming, "project")})
        options = self._calls.options(incoming)
        id = self._calls.new_id(incoming, tasks.TYPE)
        reply = await self._calls.arguments(subjects.call(tasks.TYPE, id, "create"), payload, options)
        return versioned(reply, 201, (b"location", f"/tasks/{id}".encode()))

    async def read_task(self, incoming: Incoming) -> Answer:
        return unless_known(incoming, versioned(await self._task(incoming, "read")))

    async def patch_task(self, incoming: Incoming) -> Answer:
        payload = await _patched(incoming, TASK_LIMIT, "payload")
        return versioned(await self._task(incoming, "patch", payload, within="args.patch"))

    async def delete_task(self, incoming: Incoming) -> Answer:
        await self._task(incoming, "delete")
        return Answer(204, headers=())

    async def cancel_task(self, incoming: Incoming) -> Answer:
        return versioned(await self._task(incoming, "cancel"))

    async def retry_task(self, incoming: Incoming) -> Answer:
        return versioned(await self._task(incoming, "retry"))

    async def _project(self, incoming: Incoming, method: str, payload: bytes = b"{}", within: str = "args") -> bytes:
        subject = subjects.call(projects.TYPE, _id(incoming, "project"), method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)

    async def _task(self, incoming: Incoming, method: str, payload: bytes = b"{}", within: str = "args") -> bytes:
        subject = subjects.call(tasks.TYPE, _id(incoming, "task"), method)
        return await self._calls.arguments(subject, payload, self._calls.options(incoming), within)


async def _patched(incoming: Incoming, limit: int, deepest: str) -> bytes:
    """The arguments of `patch`."""
    body = await incoming.body(limit, patches=(bodies.MERGE_PATCH,))
    bodies.decode(_patch, body, deepest)
    return b'{"patch":%b}' % body


def _id(incoming: Incoming, what: str) -> str:
    id: str = incoming.path[f"{what}_id"]
    if not subjects.is_id(id):
        raise Failure("not-found", f"there is no such {what}")
    return id


def _user(incoming: Incoming) -> str:
    id: str = incoming.path["user_id"]
    return incoming.principal.subject if id == ME else id
