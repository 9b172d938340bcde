"""A commit that gathers changes or is in flight, and the requests that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple, TypeVar

from aidevos.contracts.errors import Failure
from aidevos.durable.turns.completion import Changes
from aidevos.durable.turns.course import Batch
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.request import Request

Item = TypeVar("Item")


class Committed(NamedTuple):
    """An object as its last durable commit shows it. `state` is encoded."""

    state: bytes
    version: int
    exists: bool
    project: str | None
    made_at: datetime
    updated_at: datetime


class PendingCommit:
    """The next commit of an object, with the requests that wait for it.

    A commit that is not `urgent` holds only bookkeeping, which nothing waits for.
    """

    def __init__(self) -> None:
        self.changes = Changes()
        self.state_changed = False
        # What the object will show once this is durable; None until it is sealed, or if the state is as before.
        self.shows: Committed | None = None
        self.urgent = False
        self.entries: list[int] = []
        self.alarms: set[str] = set()
        # Waiters have their outcome in this commit; the answers of readers only show its state.
        self.waiters: list[tuple[Request, Reply]] = []
        self.readers: list[tuple[Request, Reply]] = []
        self.callbacks: list[Callable[[Failure | None], None]] = []
        # The bulk write that it was a part of.
        self.batch: Batch | None = None

    @property
    def only_clears_outbox(self) -> bool:
        """True if it does nothing but remove entries from the outbox."""
        return not (self.urgent or self.changes.set) and all(path.startswith("outbox.") for path in self.changes.unset)

    def release(self) -> tuple[list[Request], list[Callable[[Failure | None], None]]]:
        """Return the waiting requests and callbacks, and forget them."""
        requests, callbacks = [request for request, _ in self.waiters + self.readers], self.callbacks
        self.waiters, self.readers, self.callbacks = [], [], []
        return requests, callbacks


class StreamPosition(NamedTuple):
    """The last event of an object in the stream, as its owner knows it: its number and stream sequence."""

    known: bool
    sequence: int = 0
    number: int = 0


# Objects that emit no events share these.
NOWHERE, START = StreamPosition(known=False), StreamPosition(known=True)


def take_all(items: list[Item]) -> Iterator[Item]:
    """Yield the items in order and remove each one first. After an error, only those that were not yielded are left."""
    items.reverse()
    while items:
        yield items.pop()


def fail_waiting(pending: PendingCommit, failure: Failure) -> None:
    """Fail all requests and callbacks that wait for a commit."""
    requests, callbacks = pending.release()
    for request in requests:
        request.fail(failure)
    for callback in callbacks:
        callback(failure)
