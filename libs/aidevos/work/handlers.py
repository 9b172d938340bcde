"""Task handlers: the functions that a user writes to do the tasks of a kind.

@task("report")
async def report(context: TaskContext, payload: Report) -> dict[str, str]: ...
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.contracts.tasks import KIND_PATTERN, KIND_RULE, KINDS, RESERVED, Assignment
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.objects.resources import Need, needs_of
from aidevos.durable.objects.schema import Schema

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
Report = Callable[[float], Awaitable[None]]
_MARK = "__task_kind__"
# The context and the payload; the parameters that follow are injected.
OWN_PARAMETERS = 2
_is_kind = re.compile(KIND_PATTERN).fullmatch


class TaskContext:
    """The attempt that a handler makes.

    `attempt` counts from 1 to `max_attempts`. `objects` calls objects on behalf of the worker's service.
    """

    def __init__(self, assignment: Assignment, objects: DurableObjectClient, report: Report) -> None:
        self.id = assignment.id
        self.project = assignment.project
        self.kind = assignment.kind
        self.run = assignment.run
        self.attempt = assignment.attempt
        self.max_attempts = assignment.max_attempts
        self.created_by = assignment.created_by
        self.objects = objects
        self.cancelled = False
        """True if the attempt must stop, because the task was cancelled or deleted, it timed out, or the worker ends.

        The handler itself is cancelled too (`asyncio.CancelledError`). Use this flag in threads that it has started.
        """
        self._report = report

    async def progress(self, share: float) -> None:
        """Report the progress, from 0 to 1. Reports within a second of the last one are sent with the next."""
        await self._report(min(max(float(share), 0.0), 1.0))


class TaskHandler(NamedTuple):
    """A handler with its kind, the schema of its payload, and its injected parameters."""

    kind: str
    run: Callable[..., Awaitable[Any]]
    payload: Schema[Any]
    needs: Sequence[Need] = ()

    def bind(self, values: Mapping[str, Any]) -> TaskHandler:
        """Return the handler with its injected parameters bound to these values, by name."""
        return self._replace(run=partial(self.run, **values), needs=()) if self.needs else self


Handlers = Mapping[str, TaskHandler]


def task(kind: str) -> Callable[[Function], Function]:
    """Make a function the handler of a kind: `async def report(context: TaskContext, payload: Report) -> Any`.

    The payload's type is a `msgspec.Struct` or `dict[str, Any]`. A task with another payload fails with `invalid`
    and isn't retried. The function returns the result, any JSON of up to 512 KiB. A `Failure` that it raises becomes
    the task's error, and the task is retried only if the code is a passing one (such as `unavailable`). After any
    other exception, the task is retried according to its `retry`.

    The function may run again after a crash, so it should be safe to repeat. It shares its thread with other tasks,
    so long calculations belong in a thread of their own. Further parameters are injected by type from the resources of
    the process. Raises `TypeError` for an invalid kind or function.
    """
    if _is_kind(kind) is None:
        raise TypeError(f"{kind!r} is not a valid kind of task: {KIND_RULE}")

    def mark(function: Function) -> Function:
        setattr(function, _MARK, kind)
        handler_of(function)
        return function

    return mark


def handler_of(function: Callable[..., Any]) -> TaskHandler:
    """Return the handler of a function marked with `task`. Raises `TypeError` for an unsuitable function."""
    kind = getattr(function, _MARK)
    name = getattr(function, "__qualname__", kind)
    parameters = list(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or len(parameters) < OWN_PARAMETERS:
        raise TypeError(f"{name} must be: async def {name}(context: TaskContext, payload: …)")
    try:
        payload = typing.get_type_hints(function).get(parameters[1], dict[str, Any])
        return TaskHandler(kind, function, Schema(payload, "payload"), needs_of(function, OWN_PARAMETERS))
    except (TypeError, NameError) as error:
        raise TypeError(f"{name}: the payload of a task can't have this type: {error}") from None


def handlers_in(modules: Iterable[ModuleType], *, built_in: bool = False) -> dict[str, TaskHandler]:
    """Return the handlers in these modules, by kind.

    Raises `TypeError` for two handlers of one kind and, unless `built_in`, for a reserved kind.
    """
    found: dict[str, TaskHandler] = {}
    # A module may import the function of another one.
    for value in dict.fromkeys(each for module in modules for each in vars(module).values() if hasattr(each, _MARK)):
        handler = handler_of(value)
        if handler.kind in found:
            raise TypeError(f"two functions handle tasks of the kind {handler.kind!r}")
        if not built_in and handler.kind.partition(".")[0] in RESERVED:
            raise TypeError(f"{handler.kind!r} is reserved for built-in kinds, which are {', '.join(KINDS)}")
        found[handler.kind] = handler
    return found


def encode_result(result: Any, limit: int) -> bytes:
    """Return a result as JSON. Raises `invalid` if it isn't JSON, and `too-large` beyond `limit` bytes."""
    try:
        encoded = msgspec.json.encode(result)
        msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure("invalid", f"the result is not JSON: {error}", field="result") from None
    if len(encoded) > limit:
        raise Failure("too-large", f"a result has at most {limit} bytes", field="result")
    return encoded
