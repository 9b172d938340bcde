"""What every adapter does alike with an event that was delivered to a group."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from aidevos.contracts.errors import Failure
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.port import Bury, Delivery, Handler

Work = Callable[[], Awaitable[None]]

log = logging.getLogger(__name__)
# Seconds before the second attempt, the third one, and so on; the last one stays.
PAUSES = (0.1, 0.4, 1.6, 6.4, 25.6)


def retry_pause(attempt: int) -> float:
    return PAUSES[min(max(attempt, 1), len(PAUSES)) - 1]


def group_name(pattern: str, group: str) -> str:
    """What the broker calls a group's place in the events of a pattern."""
    return f"{group.replace('.', '-')}-{hashlib.sha256(f'{group} {pattern}'.encode()).hexdigest()[:12]}"


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject matches a NATS pattern (`*` one token, `>` the rest)."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


async def handle_delivery(delivery: Delivery, handler: Handler, bury: Bury, attempts: int) -> float | None:
    """None when the broker may forget the event, else the seconds after which to deliver it again."""
    failure = Failure("internal", "no attempt to handle the event came to an end")
    if delivery.attempt <= attempts:
        try:
            await handler(delivery)
        except Exception as error:
            log.warning("attempt %d to handle %s failed: %r", delivery.attempt, delivery.id, error)
            failure = error if isinstance(error, Failure) else Failure("internal", f"{type(error).__name__}: {error}")
            passing = failure.retryable or not isinstance(error, Failure)
            if passing and delivery.attempt < attempts:
                return retry_pause(delivery.attempt)
        else:
            return None
    try:
        await bury(delivery, failure)
    except Exception as error:
        log.error("%s can't be made a dead letter, trying again: %r", delivery.id, error)
        return PAUSES[-1]
    return None


class Lanes:
    """Runs work that mustn't raise: what is for one object one after another, the rest beside it."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, subject: str, work: Work) -> None:
        """Run it after all work for the same object, whose events have this subject."""
        scope = ".".join(subject.split(".", 3)[:3])
        if scope in self._waiting:
            self._waiting[scope].append(work)
            return
        self._waiting[scope] = deque([work])
        task = asyncio.get_running_loop().create_task(self._drain(scope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop at once, in the middle of the work."""
        await cancel_and_wait(list(self._tasks))

    async def _drain(self, scope: str) -> None:
        waiting = self._waiting[scope]
        try:
            while waiting:
                await waiting[0]()
                waiting.popleft()
        finally:
            del self._waiting[scope]
