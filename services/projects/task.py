"""A task: work that waits for a worker, in one project.

Promise: who may see or change a task is what the project says at the time of the call. No task stays
without its project: each tells its project of itself, and one that came after the end is removed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Event, Failure, command, permission, query, services
from aidevos.contracts import projects
from aidevos.contracts.projects import CREATE, MANAGE, Id
from aidevos.contracts.tasks import (
    SEARCH,
    TYPE,
    FindTasks,
    Kind,
    Moment,
    Plan,
    Priority,
    Retry,
    Seconds,
    Status,
    Task,
    TaskError,
)
from aidevos.durable.belongings import belongings
from aidevos.durable.clock import rfc3339, timestamp
from aidevos.durable.object import Search
from aidevos.durable.schema import Schema
from aidevos.durable.store.condition import And, Compare, Condition
from aidevos.durable.store.port import Find
from aidevos.memberships import check_role
from aidevos.merge_patch import merge_patch
from services.projects.rules import Action, encode_payload, follow, role_of

KNOWN = permission(CREATE) | permission(MANAGE)
INDEXES = (
    ("project",),
    ("project", "created_at"),
    ("project", "status", "created_at"),
    ("project", "kind", "created_at"),
)
_plan: Schema[Plan] = Schema(Plan, "args.patch")


class TaskState(msgspec.Struct):
    """`payload` and `result` are JSON text: their names could be no names in the store, and their order
    counts. Times are in seconds since the epoch."""

    project: str = ""
    kind: str = ""
    payload: str = "{}"
    status: Status = "queued"
    priority: int = 0
    run_at: float = 0.0
    timeout: float = 0.0
    retry: Retry = msgspec.field(default_factory=Retry)
    attempts: int = 0
    progress: float = 0.0
    result: str = "null"
    error: TaskError | None = None
    created_by: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None


class Created(Event):
    project: str
    kind: str
    status: Status
    version: int


class Updated(Event):
    """The task was changed: what it is to do, or its status."""

    project: str
    kind: str
    status: Status
    version: int


class Deleted(Event):
    project: str


def find(args: FindTasks) -> Find:
    """What the store is asked for a search."""
    where: list[Condition] = [Compare(("project",), "eq", args.project)]
    if args.status is not None:
        where.append(Compare(("status",), "eq", args.status))
    if args.kind is not None:
        where.append(Compare(("kind",), "eq", args.kind))
    order = (args.sort.removeprefix("-"),)
    return Find(And(tuple(where)), args.limit, order, descending=args.sort.startswith("-"))


def show(id: str, state: TaskState, version: int) -> Task:
    """The task as it is shown."""
    return Task(
        id=id,
        project=state.project,
        kind=state.kind,
        payload=msgspec.json.decode(state.payload),
        status=state.status,
        priority=state.priority,
        run_at=rfc3339(timestamp(state.run_at)),
        timeout=state.timeout,
        retry=state.retry,
        attempts=state.attempts,
        progress=state.progress,
        result=msgspec.json.decode(state.result),
        error=state.error,
        created_by=state.created_by,
        version=version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
        started_at=_moment(state.started_at),
        finished_at=_moment(state.finished_at),
    )


def _moment(at: float | None) -> str | None:
    return None if at is None else rfc3339(timestamp(at))


def no_task() -> Failure:
    """The answer where there is none, and for what the caller may not know of."""
    return Failure("not-found", "there is no such task")


class TaskDO(BaseDurableObject[TaskState], type=TYPE, management="read_only"):
    """A task of a project."""

    judges_projects = True
    searches = (Search(SEARCH, services(), FindTasks, find, show, INDEXES),)
    views = belongings(TYPE, ("project",))

    @command(allow=KNOWN, founds=True)
    async def create(
        self,
        project: Id,
        kind: Kind,
        payload: dict[str, Any] | None = None,
        priority: Priority = 0,
        run_at: Moment | None = None,
        timeout: Seconds = 300.0,  # noqa: ASYNC109
        retry: Retry | None = None,
    ) -> Task:
        """Make the task; it is queued."""
        role = await self._role(project)
        if role is None:
            raise Failure("not-found", "there is no such project")
        check_role(role, "maintainer")
        if self.state.project:
            raise Failure("exists", "there is a task with this ID")
        self.state = TaskState(project=project, kind=kind, created_by=self.caller.subject, created_at=self.now)
        plan = Plan(payload=payload or {}, priority=priority, run_at=run_at, timeout=timeout, retry=retry or Retry())
        self._take(plan, "args.payload")
        self.tell(projects.TYPE, project, "confirm", type=TYPE, id=self.id)
        self.emit(Created(project, kind, "queued", version=self.version + 1))
        return self._shown()

    @query(allow=KNOWN)
    async def read(self) -> Task:
        """The task, for members of its project."""
        await self._admit("viewer")
        return show(self.id, self.state, self.version)

    @command(allow=KNOWN, matches=False)
    async def patch(self, patch: dict[str, Any]) -> Task:
        """Change a task that waits by a JSON merge patch (RFC 7396)."""
        await self._admit_change()
        if self.state.status != "queued":
            raise Failure("conflict", f"the task is {self.state.status}: only one that is queued can be changed")
        plan = _plan.convert(merge_patch(self._plan(), patch))
        self._take(plan, "args.patch.payload")
        return self._changed()

    @command(allow=KNOWN, matches=False)
    async def cancel(self) -> Task:
        """Have the task not done, or not finished."""
        await self._admit_change()
        self._follow("cancel")
        self.state.finished_at = self.now
        return self._changed()

    @command(allow=KNOWN, matches=False)
    async def retry(self) -> Task:
        """Queue the task again, as if it had not been tried."""
        await self._admit_change()
        self._follow("retry")
        state = self.state
        state.run_at, state.attempts, state.progress = self.now, 0, 0.0
        state.result, state.error, state.started_at, state.finished_at = "null", None, None, None
        return self._changed()

    @command(allow=KNOWN, matches=False, name="delete")
    async def delete_task(self) -> None:
        """End the task, and forget it."""
        await self._admit_change()
        self.emit(Deleted(self.state.project))
        await self.delete()

    @command(allow=services())
    async def vanish(self, project: str) -> None:
        """Go with the project."""
        if self.state.project == project:
            await self.forget_outcomes()
            self.emit(Deleted(project))
        if self.state.project in ("", project):
            await self.delete()

    async def _admit(self, needed: projects.Role) -> None:
        project = self.state.project
        role = await self._role(project) if project else None
        if role is None:
            raise no_task()
        check_role(role, needed)

    async def _admit_change(self) -> None:
        await self._admit("maintainer")
        self.check_if_match()

    async def _role(self, project: str) -> projects.Role | None:
        """What the caller is now in a project that there is."""
        try:
            role = await self.call(projects.TYPE, project, "role_of", user_id=self.caller.subject)
        except Failure as failure:
            if failure.code == "not-found":
                return None
            raise
        return role_of(self.caller, project, {self.caller.subject: role} if role else {})

    def _follow(self, action: Action) -> None:
        self.state.status = follow(self.state.status, action)

    def _plan(self) -> dict[str, Any]:
        """What the task is to do, as a patch finds it."""
        state = self.state
        return {
            "payload": msgspec.json.decode(state.payload),
            "priority": state.priority,
            "run_at": rfc3339(timestamp(state.run_at)),
            "timeout": state.timeout,
            "retry": msgspec.to_builtins(state.retry),
        }

    def _take(self, plan: Plan, field: str) -> None:
        state = self.state
        state.payload = encode_payload(state.kind, plan.payload, field).decode()
        state.priority, state.timeout, state.retry = plan.priority, plan.timeout, plan.retry
        state.run_at = self.now if plan.run_at is None else plan.run_at.timestamp()
        state.updated_at = self.now

    def _changed(self) -> Task:
        state = self.state
        state.updated_at = self.now
        self.emit(Updated(state.project, state.kind, state.status, version=self.version + 1))
        return self._shown()

    def _shown(self) -> Task:
        """The task as this turn leaves it."""
        return show(self.id, self.state, self.version + 1)
