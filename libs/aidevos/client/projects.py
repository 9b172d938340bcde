"""Projects with their members, and tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from aidevos.client.entry import MERGE_PATCH, EntryPoint, Operation, Options, follow_pages, given
from aidevos.contracts import projects, subjects, tasks
from aidevos.contracts.projects import Deletion, Member, Project, Role
from aidevos.contracts.tasks import Retry, Status, Task
from aidevos.durable.base.backoff import Backoff

# Seconds between two looks at a task that is waited for.
LOOKS = Backoff(0.1, 2.0)
ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
PROJECT, MEMBER, TASK = "/projects/{id}", "/projects/{id}/members/{user}", "/tasks/{id}"


class Projects:
    """The projects that the caller is a member of. Methods raise `ApiError`."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry

    async def create(self, name: str, *, description: str = "", settings: dict[str, Any] | None = None) -> Project:
        """Create a project, which the caller owns."""
        operation = Operation.on("POST", "/projects", projects.TYPE, subjects.new_id(), "create")
        args = {"name": name, "description": description, "settings": settings or {}}
        return msgspec.convert(await self._entry.perform(operation, args), Project)

    async def get(self, id: str) -> Project:
        """Return a project with its members. Raises `NotFound`."""
        return msgspec.convert(await self._entry.perform(_on("GET", PROJECT, id, "read")), Project)

    def find(
        self, q: str | None = None, *, member: str | None = None, sort: str | None = None
    ) -> AsyncGenerator[Project, None]:
        """Yield the projects, or those with `q` in their name or description, or with a member."""
        operation = Operation("GET", "/projects", subjects.query(projects.TYPE, projects.SEARCH))
        args = given(q=q, member=member, sort=sort)
        return follow_pages(lambda at: self._entry.perform(operation, args | given(cursor=at)), Project)

    async def patch(self, id: str, patch: Mapping[str, Any], *, if_match: int | None = None) -> Project:
        """Change the name, description or settings by a merge patch (RFC 7396)."""
        operation = _on("PATCH", PROJECT, id, "patch")
        return msgspec.convert(await _merge(self._entry, operation, patch, if_match), Project)

    async def delete(self, id: str) -> Deletion:
        """Delete a project with everything that belongs to it, and return what that is."""
        return msgspec.convert(await self._entry.perform(_on("DELETE", PROJECT, id, "delete")), Deletion)

    async def members(self, id: str) -> list[Member]:
        """Return all members of a project."""
        page = await self._entry.perform(_on("GET", PROJECT + "/members", id, "members"))
        return msgspec.convert(page["items"], list[Member])

    async def set_member(self, id: str, user: str, role: Role) -> None:
        """Give a user a role in a project."""
        operation = _on("PUT", MEMBER, id, "set_member", user=user)
        await self._entry.perform(operation, {"role": role}, over_nats={"user_id": user, "role": role})

    async def remove_member(self, id: str, user: str) -> None:
        """Remove a user from a project. The last owner stays."""
        await self._entry.perform(_on("DELETE", MEMBER, id, "remove_member", user=user), over_nats={"user_id": user})


class Tasks:
    """The tasks of projects. Methods raise `ApiError`."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry

    async def create(
        self,
        project: str,
        kind: str,
        payload: Mapping[str, Any] | msgspec.Struct | None = None,
        *,
        priority: int = 0,
        run_at: datetime | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        retry: Retry | None = None,
    ) -> Task:
        """Queue a task. `timeout` is for each attempt, in seconds."""
        args = given(kind=kind, payload=payload or {}, priority=priority, run_at=run_at, timeout=timeout, retry=retry)
        operation = _on("POST", PROJECT + "/tasks", project, "tasks")
        operation = operation._replace(subject=subjects.call(tasks.TYPE, subjects.new_id(), "create"))
        made = await self._entry.perform(operation, args, over_nats=args | {"project": project})
        return msgspec.convert(made, Task)

    def find(
        self, project: str, *, status: Status | None = None, kind: str | None = None, sort: str | None = None
    ) -> AsyncGenerator[Task, None]:
        """Yield the tasks of a project, or those with a status or of a kind, the oldest first."""
        operation = _on("GET", PROJECT + "/tasks", project, "tasks")
        args = given(status=status, kind=kind, sort=sort)
        return follow_pages(lambda at: self._entry.perform(operation, args | given(cursor=at)), Task)

    async def get(self, id: str) -> Task:
        """Return a task as it is now. Raises `NotFound`."""
        return await self._perform("GET", "", id, "read")

    async def wait(self, id: str) -> Task:
        """Return a task once it has ended: `succeeded`, `failed` or `cancelled`. Wait for as long as that takes."""
        async for task in self.progress(id):
            ended = task
        return ended

    async def progress(self, id: str) -> AsyncGenerator[Task, None]:
        """Yield a task as it is now, after each change that is seen, and as it has ended.

        `task.progress` is from 0 to 1. The task is read every two seconds, and more often after a change.
        """
        version, looks = 0, 0
        while True:
            task = await self.get(id)
            looks = 1 if task.version != version else looks + 1
            if task.version != version:
                version = task.version
                yield task
            if task.status in ENDED:
                return
            await asyncio.sleep(LOOKS.pause(looks))

    async def patch(self, id: str, patch: Mapping[str, Any], *, if_match: int | None = None) -> Task:
        """Change a queued task by a merge patch (RFC 7396) of what `create` takes, except the kind."""
        operation = Operation.on("PATCH", TASK, tasks.TYPE, id, "patch")
        return msgspec.convert(await _merge(self._entry, operation, patch, if_match), Task)

    async def cancel(self, id: str) -> Task:
        """Cancel a task, whether it waits or runs. Raises `Conflict` if it has ended."""
        return await self._perform("POST", "/cancel", id, "cancel")

    async def retry(self, id: str) -> Task:
        """Queue a failed or cancelled task again. Raises `Conflict` for any other."""
        return await self._perform("POST", "/retry", id, "retry")

    async def delete(self, id: str) -> None:
        """Delete a task."""
        await self._entry.perform(Operation.on("DELETE", TASK, tasks.TYPE, id, "delete"))

    async def _perform(self, verb: str, rest: str, id: str, method: str) -> Task:
        operation = Operation.on(verb, TASK + rest, tasks.TYPE, id, method)
        return msgspec.convert(await self._entry.perform(operation), Task)


def _on(verb: str, path: str, id: str, method: str, **names: str) -> Operation:
    return Operation.on(verb, path, projects.TYPE, id, method, **names)


async def _merge(entry: EntryPoint, operation: Operation, patch: Mapping[str, Any], if_match: int | None) -> Any:
    """Send a merge patch, and return the answer."""
    options = Options(if_match=if_match)
    return await entry.perform(operation, patch, over_nats={"patch": patch}, media=MERGE_PATCH, options=options)
