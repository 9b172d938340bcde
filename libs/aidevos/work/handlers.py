"""What a user writes: a function that does the tasks of a kind.

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
from aidevos.contracts.tasks import KIND_PATTERN, KINDS, RESERVED, Assignment
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
    """What a handler knows of the attempt that it makes. `attempt` counts from 1 to `max_attempts`; `objects`
    calls objects, as the service that the worker is."""

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
        """Whether the attempt is to stop: the task was cancelled or deleted, or the worker ends. The handler itself
        is cancelled then too (`asyncio.CancelledError`); this is for what it runs in threads."""
        self._report = report

    async def progress(self, share: float) -> None:
        """Show how much is done, from 0 to 1. What comes within a second of the last is shown with the next."""
        await self._report(min(max(float(share), 0.0), 1.0))


class TaskHandler(NamedTuple):
    """A handler, what it takes, and what has to be injected into it."""

    kind: str
    run: Callable[..., Awaitable[Any]]
    payload: Schema[Any]
    needs: Sequence[Need] = ()

    def bind(self, values: Mapping[str, Any]) -> TaskHandler:
        """Return the handler with what it needs, by the names of its parameters."""
        return self._replace(run=partial(self.run, **values), needs=()) if self.needs else self


Handlers = Mapping[str, TaskHandler]


def task(kind: str) -> Callable[[Function], Function]:
    """Let a function do the tasks of a kind: `async def report(context: TaskContext, payload: Report) -> Any`.

    The payload is of a `msgspec.Struct`, or `dict[str, Any]`; a task whose payload isn't such fails with `invalid`,
    and isn't tried again. What the function returns, any JSON of up to 512 KiB, is the result. A `Failure` that it
    raises is the task's, which is tried again only where its code is one that passes (`unavailable`, …); after
    any other exception it is, as its `retry` says. The function may run again after a crash: what it does should
    be safe to repeat. It shares its thread with other tasks, so long calculations belong into another one.

    Further parameters are injected by their types from the resources of the process.
    """
    if _is_kind(kind) is None:
        raise TypeError(f"{kind!r} is no kind of task: it must match {KIND_PATTERN}")

    def mark(function: Function) -> Function:
        setattr(function, _MARK, kind)
        handler_of(function)
        return function

    return mark


def handler_of(function: Callable[..., Any]) -> TaskHandler:
    """The handler that a function was made; raises `TypeError` for one that can't be one."""
    kind = getattr(function, _MARK)
    name = getattr(function, "__qualname__", kind)
    parameters = list(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or len(parameters) < OWN_PARAMETERS:
        raise TypeError(f"{name} must be: async def {name}(context: TaskContext, payload: …)")
    try:
        payload = typing.get_type_hints(function).get(parameters[1], dict[str, Any])
        return TaskHandler(kind, function, Schema(payload, "payload"), needs_of(function, OWN_PARAMETERS))
    except (TypeError, NameError) as error:
        raise TypeError(f"{name}: tasks can't have a payload of this type: {error}") from None


def handlers_in(modules: Iterable[ModuleType], *, built_in: bool = False) -> dict[str, TaskHandler]:
    """The handlers in these modules, by kind. Raises `TypeError` for two of one kind, and where a kind is none that
    one may have of one's own."""
    found: dict[str, TaskHandler] = {}
    for module in modules:
        for value in dict.fromkeys(each for each in vars(module).values() if hasattr(each, _MARK)):
            handler = handler_of(value)
            if handler.kind in found:
                raise TypeError(f"two functions do tasks of the kind {handler.kind!r}")
            if not built_in and handler.kind.partition(".")[0] in RESERVED:
                raise TypeError(f"{handler.kind!r} is kept for built-in kinds, which are {', '.join(KINDS)}")
            found[handler.kind] = handler
    return found


def encode_result(result: Any, limit: int) -> bytes:
    """A result as JSON; raises `invalid` for what is none, and `too-large`."""
    try:
        encoded = msgspec.json.encode(result)
        msgspec.json.decode(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        raise Failure("invalid", f"the result is no JSON: {error}", field="result") from None
    if len(encoded) > limit:
        raise Failure("too-large", f"a result has at most {limit} bytes", field="result")
    return encoded
