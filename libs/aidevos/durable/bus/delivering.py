"""Delivery of events to the members of a group, shared by all adapters."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.port import Bury, BusError, Delivery, Event, Handler, OrderConflict

Work = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)
# Seconds to wait before the second attempt, the third, and so on. The last pause repeats.
PAUSES = (0.1, 0.4, 1.6, 6.4, 25.6)


def retry_pause(attempt: int) -> float:
    """Return the seconds to wait after this attempt, counted from 1, has failed."""
    return PAUSES[min(max(attempt, 1), len(PAUSES)) - 1]


def group_name(pattern: str, group: str) -> str:
    """Return the broker's name for a group's subscription to a pattern."""
    return f"{group.replace('.', '-')}-{hashlib.sha256(f'{group} {pattern}'.encode()).hexdigest()[:12]}"


def matches(pattern: str, subject: str) -> bool:
    """True if a subject matches a NATS pattern (`*` is one token, `>` is one or more)."""
    if pattern.endswith(".>") and "*" not in pattern:
        return subject.startswith(pattern[:-1])
    parts, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(parts):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(parts) == len(tokens)


def describe_event(subject: str, operation: str = "process") -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the span in which an event is handled, or published."""
    _, type, _, name = (*subject.split("."), "", "", "")[:4]
    return f"{operation} event.{type}.{name}", {
        "messaging.operation.name": operation,
        "messaging.operation.type": "process" if operation == "process" else "send",
        "messaging.destination.name": subject,
        "messaging.destination.template": f"event.{type}.{{id}}.{name}",
    }


async def publish_one_by_one(publish: Callable[..., Awaitable[int]], events: Sequence[Event]) -> list[int | Exception]:
    """Publish the events of one scope in sequence, and those of different scopes concurrently.

    `publish` is that of an `EventBus`, and the result is that of its `publish_batch`.
    """
    runs = [list(run) for _, run in groupby(events, key=attrgetter("scope"))]
    if len(runs) == 1:
        return list(await _publish_run(publish, runs[0]))
    return list(chain.from_iterable(await asyncio.gather(*(_publish_run(publish, run) for run in runs))))


async def _publish_run(publish: Callable[..., Awaitable[int]], events: Sequence[Event]) -> Iterable[int | Exception]:
    results: list[int | Exception] = []
    after = events[0].after
    for subject, payload, id, number, scope, _ in events:
        try:
            after = await publish(subject, payload, id, number=number, scope=scope, after=after)
        except (BusError, OrderConflict) as error:
            return [*results, *[error] * (len(events) - len(results))]
        results.append(after)
    return results


async def handle_delivery(delivery: Delivery, handler: Handler, bury: Bury, attempts: int) -> float | None:
    """Handle an event, or bury it after its last attempt.

    Return None if the broker may forget the event, else the seconds after which to deliver it again.
    """
    failure = Failure("internal", "no attempt to handle the event has finished")
    if delivery.attempt <= attempts:
        try:
            await handler(delivery)
        except Exception as error:
            log.warning("attempt %d to handle %s failed: %r", delivery.attempt, delivery.id, error)
            failure = error if isinstance(error, Failure) else Failure("internal", f"{type(error).__name__}: {error}")
            retryable = failure.retryable or not isinstance(error, Failure)
            if retryable and delivery.attempt < attempts:
                return retry_pause(delivery.attempt)
        else:
            return None
    try:
        await bury(delivery, failure)
    except Exception as error:
        log.error("%s can't be stored as a dead letter, trying again: %r", delivery.id, error)
        return PAUSES[-1]
    return None


class Lanes:
    """Runs work for one object in sequence, and for different objects concurrently. A failure is logged."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, subject: str, work: Work) -> None:
        """Run the work after all earlier work for the object that the subject names."""
        scope = ".".join(subject.split(".", 3)[:3])
        if scope in self._waiting:
            self._waiting[scope].append(work)
            return
        self._waiting[scope] = deque([work])
        task = asyncio.get_running_loop().create_task(self._drain(scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all work at once."""
        await cancel_and_wait(list(self._tasks))

    async def _drain(self, scope: str) -> None:
        waiting = self._waiting[scope]
        try:
            while waiting:
                try:
                    await waiting[0]()
                except Exception:
                    log.exception("settling an event of %s failed", scope)
                waiting.popleft()
        finally:
            del self._waiting[scope]
