"""Tasks as both entry points show them, the built-in kinds of tasks, and the messages of the type `task`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.data import BULK_LIMIT, CollectionName, ItemId
from aidevos.contracts.patterns import whole
from aidevos.contracts.projects import Id

TYPE = "task"
# The search over all tasks, for services: `query.task.search`.
SEARCH = "search"
# The query by which workers find runnable tasks, best first: `query.task.due`; and the event that wakes them.
DUE = "due"
QUEUED = "event.task.*.queued"
# The query that counts the runnable tasks: `query.task.count_due`.
COUNT_DUE = "count_due"

KIND_PATTERN = r"[a-z][a-z0-9_]{0,47}(?:\.[a-z][a-z0-9_]{0,47}){0,3}"
# The same in words.
KIND_RULE = "use up to four words of lower-case letters, digits and `_`, joined by dots, such as `shop.daily_report`"
# The largest payload, in bytes of JSON.
PAYLOAD_LIMIT = 256 * 1024
# The largest result, in bytes of JSON, and the longest detail of an error, in characters.
RESULT_LIMIT = 512 * 1024
DETAIL_LIMIT = 2000
DAY = 86_400.0
# Error codes of attempts whose worker never reported an end.
LOST, TIMEOUT = "lost", "timeout"

Kind = Annotated[str, Meta(pattern=whole(KIND_PATTERN))]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Priority = Annotated[int, Meta(ge=-100, le=100, description="Higher ones run first")]
Seconds = Annotated[float, Meta(gt=0, le=7 * DAY)]
Pause = Annotated[float, Meta(ge=0, le=DAY)]
Progress = Annotated[float, Meta(ge=0, le=1)]
Moment = Annotated[datetime, Meta(tz=True)]


class DataExport(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Payload of `data.export`: all items of a collection, one per line."""

    collection: CollectionName
    format: Literal["ndjson"] = "ndjson"


class ImportedItem(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An item to import; without an `id`, it gets a new one."""

    id: ItemId | None = None
    data: Any


class DataImport(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Payload of `data.import`: items for a collection."""

    collection: CollectionName
    items: Annotated[list[ImportedItem], Meta(min_length=1, max_length=BULK_LIMIT)]


class ObjectCall(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Payload of `object.call`: a call of an object's method with the permissions of the task's creator.

    The permissions are those that the creator has when the task runs.
    """

    object_id: Annotated[str, Meta(pattern=whole(f"{subjects.TYPE_PATTERN}:{subjects.ID_PATTERN}"))]
    method: Annotated[str, Meta(pattern=whole(subjects.METHOD_PATTERN))]
    args: dict[str, Any] = {}


class Webhook(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Payload of `webhook`: one delivery to a URL; `type` is the event type that the receiver sees."""

    url: Annotated[str, Meta(pattern=whole(r"https?://[^\s/?#@]+([/?][^\s#]*)?"), max_length=2048)]
    type: Annotated[str, Meta(pattern=whole(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*"), max_length=128)] = "webhook"
    data: dict[str, Any] = {}


# Other kinds are custom, and their handlers validate the payload. They can't begin with a built-in kind's prefix.
KINDS: dict[str, type[msgspec.Struct]] = {
    "data.export": DataExport,
    "data.import": DataImport,
    "object.call": ObjectCall,
    "webhook": Webhook,
}
RESERVED = frozenset(kind.partition(".")[0] for kind in KINDS)


class Retry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The number of attempts, and the pauses between them in seconds.

    The first pause is `backoff`; each further one doubles, up to `max_backoff`. Jitter shortens each
    pause by up to half.
    """

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    backoff: Pause = 1.0
    max_backoff: Pause = 300.0


class Plan(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The part of a task that can be changed while it waits.

    Without `run_at`, it may run at once. `timeout` applies to each attempt, in seconds.
    """

    payload: dict[str, Any] = {}
    priority: Priority = 0
    run_at: Moment | None = None
    timeout: Seconds = 300.0
    retry: Retry = msgspec.field(default_factory=Retry)


class CreateTaskBody(Plan, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /projects/{project_id}/tasks`."""

    kind: Kind


class TaskError(msgspec.Struct, kw_only=True):
    """The reason why the last attempt failed.

    `code` is that of a `Failure`, `error` for any other exception, `lost` if the worker stopped
    responding, or `timeout`.
    """

    code: str
    detail: str


class AttemptError(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The reason why an attempt failed, as its worker reports it.

    No further attempt follows unless it is `retryable`. If the effect of the attempt isn't `known`, the
    next attempt repeats exactly the same requests.
    """

    code: Annotated[str, Meta(pattern=whole(r"[a-z][a-z0-9-]{0,63}"))]
    detail: str = ""
    retryable: bool = True
    known: bool = True


class FindDue(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.task.due`; `kinds` are those that the worker has handlers for."""

    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=500)]
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class CountDue(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `query.task.count_due`."""


class Assignment(msgspec.Struct, kw_only=True):
    """The task that `start` gives a worker.

    `run` identifies the attempt in all later messages and is never reused. `attempt` counts from 1. The
    worker must report at least once every `lease` seconds. `trace` is the `traceparent` of the task.
    """

    id: str
    project: str
    kind: str
    payload: dict[str, Any]
    run: str
    attempt: int
    max_attempts: int
    timeout: float
    lease: float
    created_by: str
    trace: str = ""


class Order(msgspec.Struct, kw_only=True):
    """A request that a worker sends unchanged on behalf of the task's creator, valid for some seconds."""

    subject: str
    payload: str
    request_id: str
    authorization: str


class Message(msgspec.Struct, kw_only=True):
    """A webhook, ready to be sent."""

    url: str
    body: str
    headers: dict[str, str]


class Task(msgspec.Struct, kw_only=True):
    """A task as both entry points show it.

    `attempts` counts those that were begun. `progress` is from 0 to 1. `result` may have any shape.
    `created_by` is a user's ID. `version` is the ETag. Times are RFC 3339 in UTC.
    """

    id: str
    project: str
    kind: str
    payload: dict[str, Any]
    status: Status
    priority: int
    run_at: str
    timeout: float
    retry: Retry
    attempts: int
    progress: float
    result: Any
    error: TaskError | None
    created_by: str
    version: int
    created_at: str
    updated_at: str
    started_at: str | None
    finished_at: str | None


class ListTasks(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The parameters of `GET /projects/{project_id}/tasks`, and the arguments of a project's `tasks`."""

    limit: int = 50
    cursor: str | None = None
    status: Status | None = None
    kind: Kind | None = None
    sort: Literal["created_at", "-created_at"] = "created_at"


class FindTasks(ListTasks, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.task.search`."""

    project: Id


class TaskPage(msgspec.Struct, kw_only=True):
    items: list[Task]
    next_cursor: str | None = None
