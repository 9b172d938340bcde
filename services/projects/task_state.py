"""The stored state of a task, its public representation, and its searches."""

from __future__ import annotations

import msgspec

from aidevos.contracts.tasks import TYPE, CountDue, FindDue, FindTasks, Retry, Status, Task, TaskError
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.queries import And, Compare, Condition, Find, OneOf, Reader

KIND, DUE = ("kind",), ("due",)
# Bounds of a count of runnable tasks: their kinds, and the tasks of one kind.
MAX_KINDS, MAX_DUE = 100, 10_000
INDEXES = (
    ("project",),
    ("project", "created_at"),
    ("project", "status", "created_at"),
    ("project", "kind", "created_at"),
)
# The index by which workers find due tasks.
DUE_INDEX = ("kind", "due")
# More seconds than between any two times at which tasks may run.
SPAN = 1e11


class TaskState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch.

    `payload` and `result` are JSON text: the store doesn't allow all of their field names, and their
    order matters. `due` orders runnable tasks, lowest first, and is None for all others. `run` is the
    ID of the attempt in progress. `sends` counts the attempts whose requests are known to be over. The
    maker is the user with whose permissions the task acts, limited to the API key `maker_key` if there
    is one. `trace` is the `traceparent` of the request that the task was created or retried with.
    """

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
    due: float | None = None
    run: str = ""
    worker: str = ""
    sends: int = 0
    maker: str = ""
    maker_key: str = ""
    trace: str = ""


def place_in_line(priority: int, run_at: float) -> float:
    """Return the sort key of due tasks: a higher priority first, then the task that has waited longest."""
    return run_at - priority * SPAN


def find(args: FindTasks) -> Find:
    """Return the store's query for a search."""
    where: list[Condition] = [Compare(("project",), "eq", args.project)]
    if args.status is not None:
        where.append(Compare(("status",), "eq", args.status))
    if args.kind is not None:
        where.append(Compare(("kind",), "eq", args.kind))
    order = (args.sort.removeprefix("-"),)
    return Find(And(tuple(where)), args.limit, order, descending=args.sort.startswith("-"))


async def answer_due(reader: Reader, args: FindDue) -> list[str]:
    """Return the IDs of runnable tasks in order."""
    where = And((OneOf(("kind",), tuple(args.kinds)), Compare(DUE, "lt", SPAN * SPAN)))
    return [document.id for document in await reader.find(TYPE, Find(where, args.limit, DUE, only=(DUE,)))]


async def count_due(reader: Reader, args: CountDue) -> int:
    """Return the number of runnable tasks, of up to `MAX_KINDS` kinds and up to `MAX_DUE` of each."""
    count, last = 0, ""
    for _ in range(MAX_KINDS):
        following = Find(Compare(KIND, "gt", last), 1, KIND, only=(KIND,))
        found = await reader.find(TYPE, following)
        if not found:
            break
        last = (found[0].state or {})["kind"]
        due = And((Compare(KIND, "eq", last), Compare(DUE, "lt", SPAN * SPAN)))
        count += await reader.count(TYPE, due, limit=MAX_DUE)
    return count


def show(id: str, state: TaskState, version: int) -> Task:
    """Return the task's public representation."""
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
