"""A task: work for a worker, in one project.

Promises: the project decides at the time of each call who may see or change a task. No task outlives
its project: each task tells its project about itself, and one that arrives after the project's end is
removed.

Only one attempt is in progress at a time, with an ID that is never used again. A report of an attempt
that was given up, or whose task was cancelled or deleted, is refused. So exactly one result is
recorded, however often workers die. Alarms of the task, which need no worker, watch over leases and
timeouts, and start due tasks and retries.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import (
    LONGEST_ALARM,
    Alarm,
    Backoff,
    BaseDurableObject,
    Event,
    Failure,
    Principal,
    Schema,
    command,
    inject,
    new_id,
    permission,
    query,
    services,
)
from aidevos.contracts import projects
from aidevos.contracts.merge_patch import merge_patch
from aidevos.contracts.projects import CREATE, MANAGE, Id
from aidevos.contracts.tasks import (
    COUNT_DUE,
    DETAIL_LIMIT,
    DUE,
    LOST,
    PAYLOAD_LIMIT,
    RESULT_LIMIT,
    SEARCH,
    TIMEOUT,
    TYPE,
    Assignment,
    AttemptError,
    CountDue,
    FindDue,
    FindTasks,
    Kind,
    Message,
    Moment,
    Order,
    Plan,
    Priority,
    Progress,
    Retry,
    Seconds,
    Status,
    Task,
    TaskError,
    Webhook,
)
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.feeds import webhook_signatures as webhooks
from aidevos.observability import tracing
from aidevos.projects.belongings import project_views
from aidevos.projects.memberships import check_role
from aidevos.queries import Search, View
from aidevos.security.delegations import Delegations
from aidevos.security.mandates import load_mandate
from aidevos.settings import Settings

from .orders import build_calls
from .rules import Action, encode_payload, follow, role_of
from .task_state import DUE_INDEX, INDEXES, TaskState, answer_due, count_due, find, place_in_line, show

KNOWN = permission(CREATE) | permission(MANAGE)
# A payload, a result and everything else.
STATE_LIMIT = PAYLOAD_LIMIT + RESULT_LIMIT + 64 * 1024
# The alarms of a task: it may run; its worker must have reported; its attempt must have ended.
DUE_ALARM, LEASE_ALARM, TIMEOUT_ALARM = "due", "lease", "timeout"
# A lease alarm that is this many seconds late means that no worker could report, as after an outage.
UNHEARD = 5.0
_plan: Schema[Plan] = Schema(Plan, "args.patch")


class Created(Event):
    project: str
    kind: str
    status: Status
    version: int


class Updated(Event):
    """The task's plan or status was changed."""

    project: str
    kind: str
    status: Status
    version: int


class Queued(Event):
    """The task may run now: a worker should look for it."""

    project: str
    kind: str
    priority: int


class Deleted(Event):
    project: str


def no_task() -> Failure:
    """Return the failure for a task that doesn't exist or that the caller may not know about."""
    return Failure("not-found", "this task doesn't exist")


class TaskDO(BaseDurableObject[TaskState], type=TYPE, management="read_only"):
    """A task of a project."""

    project_aware = True
    state_limit = STATE_LIMIT
    settings: Settings = inject()
    delegations: Delegations = inject()
    searches = (Search(SEARCH, services(), FindTasks, find, show, INDEXES),)
    views = (
        *project_views(TYPE, ("project",)),
        View(DUE, services(), FindDue, answer_due),
        View(COUNT_DUE, services(), CountDue, count_due),
    )
    indexes = (DUE_INDEX,)

    @command(allow=KNOWN, creates=True)
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
        """Create the task and queue it."""
        role = await self._role(project)
        if role is None:
            raise Failure("not-found", "this project doesn't exist")
        check_role(role, "maintainer")
        if self.state.project:
            raise Failure("exists", "a task with this ID exists already")
        self.state = TaskState(project=project, kind=kind, created_by=self.caller.subject, created_at=self.now)
        self.state.trace = tracing.traceparent()
        self.emit(Created(project, kind, "queued", version=self.version + 1))
        plan = Plan(payload=payload or {}, priority=priority, run_at=run_at, timeout=timeout, retry=retry or Retry())
        self._take(plan, "args.payload")
        self._act_for(self.caller)
        self.tell(projects.TYPE, project, "confirm", type=TYPE, id=self.id)
        return self._shown()

    @query(allow=KNOWN)
    async def read(self) -> Task:
        """Return the task. Members of its project only."""
        await self._admit("viewer")
        return show(self.id, self.state, self.version)

    @command(allow=KNOWN, checks_if_match=False)
    async def patch(self, patch: dict[str, Any]) -> Task:
        """Change a queued task by a JSON merge patch (RFC 7396)."""
        await self._admit_change()
        if self.state.status != "queued":
            raise Failure("conflict", f"the task is {self.state.status}: only a queued task can be changed")
        plan = _plan.convert(merge_patch(self._plan(), patch))
        before = self.state.payload
        self._take(plan, "args.patch.payload")
        if self.state.payload != before:
            # A changed payload must not use the permissions of another user.
            self._act_for(self.caller)
        return self._changed()

    @command(allow=KNOWN, checks_if_match=False)
    async def cancel(self) -> Task:
        """Cancel the task, whether it is queued or running."""
        await self._admit_change()
        self._follow("cancel")
        self._leave_line()
        self.state.finished_at = self.now
        return self._changed()

    @command(allow=KNOWN, checks_if_match=False)
    async def retry(self) -> Task:
        """Queue the task again, as if it had never been tried."""
        await self._admit_change()
        self._follow("retry")
        state = self.state
        state.attempts, state.progress, state.sends = 0, 0.0, state.sends + 1
        state.result, state.error, state.started_at, state.finished_at = "null", None, None, None
        state.trace = tracing.traceparent()
        # A retry must not use the permissions of another user.
        self._act_for(self.caller)
        self._queue(self.now)
        return self._changed()

    @command(allow=KNOWN, checks_if_match=False, name="delete")
    async def delete_task(self) -> None:
        """Cancel and delete the task."""
        await self._admit_change()
        self.emit(Deleted(self.state.project))
        await self.delete()

    @command(allow=services())
    async def vanish(self, project: str) -> None:
        """Delete the task because its project was deleted."""
        if self.state.project == project:
            await self.forget_outcomes()
            self.emit(Deleted(project))
        if self.state.project in ("", project):
            await self.delete()

    @command(allow=services())
    async def start(self, worker: str) -> Assignment:
        """Start an attempt.

        Raises `conflict` if the task may not run now, for example because another worker was faster.
        """
        state = self.state
        if state.due is None:
            raise self._refused()
        self._follow("start")
        self._leave_line()
        state.run, state.worker, state.attempts = new_id(), worker, state.attempts + 1
        state.progress, state.started_at = 0.0, self.now
        self.alarms.set(TIMEOUT_ALARM, in_=state.timeout)
        self._renew_lease()
        self._changed()
        return Assignment(
            id=self.id,
            project=state.project,
            kind=state.kind,
            payload=msgspec.json.decode(state.payload),
            run=state.run,
            attempt=state.attempts,
            max_attempts=state.retry.max_attempts,
            timeout=state.timeout,
            lease=self.settings.task_lease,
            created_by=state.created_by,
            trace=state.trace,
        )

    @command(allow=services())
    async def beat(self, run: str, progress: Progress | None = None) -> bool:
        """Record a worker's heartbeat; return True if it should continue its attempt."""
        state = self.state
        if not state.project:
            raise no_task()
        if not run or state.run != run:
            return False
        self._renew_lease()
        if progress is not None and progress != state.progress:
            state.progress = progress
            self._changed()
        return True

    @command(allow=services())
    async def finish(self, run: str, result: Any = None, error: AttemptError | None = None) -> None:
        """Record the end of an attempt. Raises `conflict` if the attempt is no longer in progress."""
        self._check_run(run)
        if error is not None:
            self._fail(error)
            return
        encoded = msgspec.json.encode(result)
        if len(encoded) > RESULT_LIMIT:
            detail = f"the result has more than {RESULT_LIMIT} bytes"
            self._fail(AttemptError(code="too-large", detail=detail, retryable=False))
            return
        self._follow("succeed")
        self._leave_line()
        state = self.state
        state.result, state.error, state.progress, state.finished_at = encoded.decode(), None, 1.0, self.now
        self._changed()

    @command(allow=services())
    async def give_back(self, run: str) -> None:
        """Queue the task again, as if the attempt had not started: its worker is stopping."""
        self._check_run(run)
        self._follow("postpone")
        self.state.attempts -= 1
        self._queue(self.now)
        self._changed()

    @query(allow=services())
    async def orders(self, run: str, after: str = "") -> list[Order]:
        """Return an attempt's next requests after a position, with the current permissions of the task's creator.

        Raises `forbidden` if the creator no longer has access.
        """
        self._check_run(run)
        state = self.state
        found = build_calls(self.id, state.kind, state.payload, state.sends, after)
        try:
            mandate = await load_mandate(self.call, state.maker, state.maker_key)
        except Failure as failure:
            if failure.code == "unauthenticated":
                raise Failure("forbidden", "the task's creator no longer has access") from None
            raise
        return [
            Order(
                subject=call.subject,
                payload=call.payload.decode(),
                request_id=call.request_id,
                authorization=self.delegations.authorization(mandate, call),
            )
            for call in found
        ]

    @command(allow=services(), confidential=True, keeps_version=True)
    async def message(self, run: str) -> Message:
        """Return the webhook of an attempt, signed with the project's secrets; it has the task's ID."""
        self._check_run(run)
        state = self.state
        webhook = msgspec.json.decode(state.payload, type=Webhook)
        secrets = await self.call(projects.TYPE, state.project, "signing_secrets")
        made = rfc3339(timestamp(state.created_at))
        body = msgspec.json.encode({"type": webhook.type, "timestamp": made, "data": webhook.data})
        return Message(
            url=webhook.url, body=body.decode(), headers=webhooks.sign_headers(self.id, self.now, body, secrets)
        )

    async def on_alarm(self, alarm: Alarm) -> None:
        """Queue the task when it is due, or end an attempt that timed out or whose worker fell silent."""
        if alarm.name == DUE_ALARM:
            self._queue(self.state.run_at)
        elif alarm.name == TIMEOUT_ALARM:
            detail = f"the attempt took longer than {self.state.timeout:g} seconds"
            self._fail(AttemptError(code=TIMEOUT, detail=detail, known=False))
        elif self.now - alarm.due > UNHEARD:
            self._renew_lease()
        else:
            detail = f"the worker {self.state.worker} stopped responding"
            self._fail(AttemptError(code=LOST, detail=detail, known=False))

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
        """Return the caller's current role in an existing project, or None."""
        try:
            role = await self.call(projects.TYPE, project, "role_of", user_id=self.caller.subject)
        except Failure as failure:
            if failure.code == "not-found":
                return None
            raise
        return role_of(self.caller, project, {self.caller.subject: role} if role else {})

    def _follow(self, action: Action) -> None:
        self.state.status = follow(self.state.status, action)

    def _act_for(self, caller: Principal) -> None:
        self.state.maker, self.state.maker_key = caller.subject, caller.key

    def _queue(self, at: float) -> None:
        """Queue the task to run at this time or later."""
        state = self.state
        self._leave_line()
        state.run_at = at
        if at > self.now:
            self.alarms.set(DUE_ALARM, at=at)
        else:
            state.due = place_in_line(state.priority, at)
            self.emit(Queued(state.project, state.kind, state.priority))

    def _leave_line(self) -> None:
        """Stop waiting for a worker, and cancel all alarms."""
        self.state.due, self.state.run, self.state.worker = None, "", ""
        for name in (DUE_ALARM, LEASE_ALARM, TIMEOUT_ALARM):
            self.alarms.cancel(name)

    def _renew_lease(self) -> None:
        self.alarms.set(LEASE_ALARM, in_=self.settings.task_lease)

    def _check_run(self, run: str) -> None:
        if not self.state.project:
            raise no_task()
        if not run or self.state.run != run:
            raise Failure("conflict", "this attempt is no longer in progress")

    def _refused(self) -> Failure:
        if not self.state.project:
            return no_task()
        if self.state.status != "queued":
            return Failure("conflict", f"the task is {self.state.status}")
        return Failure("conflict", "the task may not run yet")

    def _fail(self, error: AttemptError) -> None:
        """End the attempt: another one follows after a pause, or the task has failed."""
        state = self.state
        state.error = TaskError(code=error.code, detail=error.detail[:DETAIL_LIMIT])
        state.sends += error.known
        if error.retryable and state.attempts < state.retry.max_attempts:
            self._follow("postpone")
            backoff = Backoff(state.retry.backoff, state.retry.max_backoff)
            self._queue(self.now + backoff.pause(state.attempts, self.id))
        else:
            self._follow("fail")
            self._leave_line()
            state.finished_at = self.now
        self._changed()

    def _plan(self) -> dict[str, Any]:
        """Return the task's plan, for a patch."""
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
        state.updated_at = self.now
        at = self.now if plan.run_at is None else plan.run_at.timestamp()
        if abs(at - self.now) > LONGEST_ALARM:
            raise Failure(
                "invalid", "a task must run within 100 years from now", field=field.replace("payload", "run_at")
            )
        self._queue(at)

    def _changed(self) -> Task:
        state = self.state
        state.updated_at = self.now
        self.emit(Updated(state.project, state.kind, state.status, version=self.version + 1))
        return self._shown()

    def _shown(self) -> Task:
        """Return the task as this turn leaves it."""
        return show(self.id, self.state, self.version + 1)
