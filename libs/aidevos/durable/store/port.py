"""What the framework asks of a store.

One document is one object, and one commit is one atomic update of it. A claim gives a document a
new, never repeated owner; a commit matches the owner and the commit before it, so of two owners
only the newer can write (the fence). Neither depends on a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.store.conditions import Condition, Path

# Of a search, in milliseconds.
TIME_LIMIT = 5_000


class Document(msgspec.Struct, kw_only=True):
    """An object as it stands in the store. `deleted` is set on a tombstone, and on a document that
    a claim has made and no turn has filled yet."""

    id: str
    owner: str | None = None
    epoch: int = 0
    commit: str | None = None
    version: int = 0
    partition: int = 0
    schema: int = 1
    state: dict[str, Any] | None = None
    replies: dict[str, Any] = msgspec.field(default_factory=dict)
    archived: bool = False
    outbox: dict[str, Any] = msgspec.field(default_factory=dict)
    outbox_last: int = 0
    alarms: dict[str, Any] = msgspec.field(default_factory=dict)
    alarm_at: float | None = None
    deleted: datetime | None = None
    made_at: datetime | None = None
    project: str | None = None
    updated_at: datetime | None = None
    # Bytes as found by a search.
    size: int = 0

    @property
    def exists(self) -> bool:
        return self.deleted is None


class Claim(NamedTuple):
    id: str
    owner: str
    partition: int


class Commit(NamedTuple):
    """One atomic update: dotted paths to set and to unset. `size` bounds the encoded update in bytes.
    A `founding` one claims and makes the document of this partition, if there is none."""

    id: str
    owner: str
    previous: str | None
    commit: str
    set: dict[str, Any]
    unset: Sequence[str]
    size: int
    founding: int | None = None


class CommitPoint(NamedTuple):
    """A document as its owner has left it: with this commit."""

    id: str
    owner: str
    commit: str


class Find(NamedTuple):
    """Which objects to find by their states, and in which order: by the values at the path `order`,
    which are all numbers or all text, then by the IDs; without an `order` by the IDs alone. `after` is
    the (value, ID) of the last one seen, `within` the time limit in milliseconds. With a `size` no more
    is found once that many bytes are; with `only` the states are shown at these paths alone."""

    where: Condition
    limit: int
    order: Path | None = None
    descending: bool = False
    after: tuple[str | float | None, str] | None = None
    within: int = TIME_LIMIT
    size: int | None = None
    only: Sequence[Path] | None = None


class Outcome(Enum):
    APPLIED = "applied"
    FENCED = "fenced"
    EXISTS = "exists"
    UNKNOWN = "unknown"


def search_too_slow(within: int) -> Failure:
    """What a search past its time limit ends with."""
    what = f"the search took longer than {within} ms: declare an index that serves it, or ask for less"
    return Failure("too-slow", what)


def take_up_to(size: int | None, documents: list[Document]) -> list[Document]:
    """The first documents, up to the one with which they have so many bytes."""
    total = 0
    for count, document in enumerate(documents, 1):
        total += document.size
        if size is not None and total >= size:
            return documents[:count]
    return documents


class StoreError(Exception):
    """The store did not answer, or not in a way that tells what happened."""


class Store(Protocol):
    """Every method but `commit` raises `StoreError`; reads are of majority-committed documents."""

    async def open(
        self, type: str, indexes: Iterable[tuple[str, ...]] = (), sparse: Iterable[tuple[str, ...]] = ()
    ) -> None:
        """Make ready for objects of a type, and for searches by these paths in the state: idempotent.
        The `sparse` ones hold only objects in whose states something stands at the last path."""

    async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        """Claim documents, making those that are missing; the documents that were won, by ID."""

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        """Apply each update whose owner and previous commit match; never raises but for cancellation."""

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        """Empty the outboxes of those documents that are as they were left, all at once, without a commit.
        Whether that were all of them; which others there are isn't told."""

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these IDs, without claiming them."""

    async def list_page(self, type: str, after: str, limit: int, project: str | None = None) -> list[Document]:
        """Existing objects in the order of their IDs, those greater than `after`; without what only
        an activation needs (replies, outbox and alarms). With a `project` those that belong to it, with an empty
        one those that belong to none."""

    async def count_in_project(self, type: str, project: str, within: int = TIME_LIMIT) -> int:
        """How many existing objects belong to a project; raises `Failure` past the time limit."""

    async def find(self, type: str, wanted: Find) -> list[Document]:
        """Existing objects by their states, in the order asked for; as `page` shows them. Raises `Failure`
        past the time limit."""

    async def count(self, type: str, where: Condition, within: int = TIME_LIMIT, limit: int | None = None) -> int:
        """How many existing objects there are of which the condition is true, up to the limit; `within` as
        in `Find`."""

    async def list_pending(self, type: str, after: str, limit: int) -> list[str]:
        """IDs greater than `after`, in their order, of objects whose outbox is not empty."""

    async def list_due(self, type: str, after: float, until: float, limit: int) -> list[tuple[str, float]]:
        """IDs and times of the objects whose earliest alarm is in (`after`, `until`], in the order of the times."""

    async def purge(self, type: str, before: datetime) -> int:
        """Remove tombstones last committed before the moment, if nothing waits in their outboxes."""

    async def archive(self, type: str, id: str, records: Iterable[tuple[str, dict[str, Any], datetime]]) -> None:
        """Keep completion records (key, record, end of life) outside the document."""

    async def read_archived(self, type: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """The archived records of these (object ID, key) pairs."""

    async def delete_archived(self, type: str, id: str) -> None:
        """Remove an object's archived records."""

    async def ping(self) -> None:
        """Return when the store answers."""
