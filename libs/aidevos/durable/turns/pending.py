"""A commit that is being gathered or is on its way, and those who wait for it."""

from __future__ import annotations

from collections.abc import Callable

from aidevos.contracts.errors import Failure
from aidevos.durable.turns.completion import Changes
from aidevos.durable.turns.failures import not_applied
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.request import Request


class Pending:
    """What the next commit of an object will hold, and who waits for it. One that is not `urgent`
    only keeps books: nobody waits for it."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.state_changed = False
        self.urgent = False
        self.entries: list[int] = []
        self.alarms: set[str] = set()
        # Those whose outcome is in this commit, and those who have only seen what it will hold.
        self.waiters: list[tuple[Request, Reply]] = []
        self.readers: list[tuple[Request, Reply]] = []
        self.callbacks: list[Callable[[Failure | None], None]] = []

    @property
    def only_sent(self) -> bool:
        """Whether it does nothing but remove entries from the outbox."""
        return not (self.urgent or self.changes.set) and all(path.startswith("outbox.") for path in self.changes.unset)

    def release(self) -> tuple[list[Request], list[Callable[[Failure | None], None]]]:
        """The requests and the callbacks that wait for this commit; nobody waits for it any more."""
        requests, callbacks = [request for request, _ in self.waiters + self.readers], self.callbacks
        self.waiters, self.readers, self.callbacks = [], [], []
        return requests, callbacks


class StreamPosition:
    """The last event of an object in the stream, as far as its owner knows."""

    __slots__ = ("known", "number", "sequence")

    def __init__(self) -> None:
        self.known = False
        self.sequence = 0
        self.number = 0


def drop_all(pending: Pending) -> None:
    """Say nothing to anybody who waits for a commit: the lease is lost."""
    requests, callbacks = pending.release()
    for request in requests:
        request.drop()
    for callback in callbacks:
        callback(not_applied())


def fail_all(pending: Pending, failure: Failure) -> None:
    """Tell everybody who waits for a commit that it has failed; nobody waits for it any more."""
    requests, callbacks = pending.release()
    for request in requests:
        request.fail(failure)
    for callback in callbacks:
        callback(failure)
