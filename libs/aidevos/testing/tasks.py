"""Task handlers in tests: run as a worker would run them, without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from aidevos.contracts.tasks import RESULT_LIMIT, Assignment
from aidevos.work.handlers import TaskContext, encode_result, handler_of


async def run_task(
    function: Callable[..., Awaitable[Any]],
    payload: Mapping[str, Any] | None = None,
    *,
    objects: Any = None,
    attempt: int = 1,
    max_attempts: int = 3,
    **needs: Any,
) -> Any:
    """Make one attempt of a task with the function marked with `task`, and return the decoded result.

    `objects` is what `context.objects` calls, such as an `ObjectKit`, and `needs` are the function's injected
    parameters. Raises what the function raises, and `Failure` for a payload that it doesn't take or a result that isn't
    JSON.
    """
    handler, given = handler_of(function), dict(payload or {})
    assignment = Assignment(
        id="task",
        project="project",
        kind=handler.kind,
        payload=given,
        run="run",
        attempt=attempt,
        max_attempts=max_attempts,
        timeout=60.0,
        lease=30.0,
        created_by="tester",
    )
    context = TaskContext(assignment, objects, _ignore)
    result = await handler.bind(needs).run(context, handler.payload.convert(given))
    return msgspec.json.decode(encode_result(result, RESULT_LIMIT))


async def _ignore(progress: float) -> None:
    """Take a report of progress."""
