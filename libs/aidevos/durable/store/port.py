"""What the framework asks of a store.

One document is one object, and one commit is one atomic update of it. A claim gives a document a
new, never repeated owner; a commit matches the owner and the commit before it, so of two owners
only the newer can write (the fence). Neither depends on a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

import msgspec


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
    deleted: datetime | None = None
    made_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.deleted is None


class Claim(NamedTuple):
    id: str
    owner: str
    partition: int


class Commit(NamedTuple):
    """One atomic update: dotted paths to set and to unset. `size` bounds the encoded update in bytes."""

    id: str
    owner: str
    previous: str | None
    commit: str
    set: dict[str, Any]
    unset: Sequence[str]
    size: int


class Between(NamedTuple):
    """Values from `low` on and below `high`; None is no bound."""

    low: str | float | None
    high: str | float | None


class Find(NamedTuple):
    """Which objects to find by their states. Names are paths in the state, which the type's author
    spells and no caller: `equal` values stand at their paths, or in a list there; `text`, without
    regard to case, is a part of what stands at one of the paths `within`; what stands at the paths of
    `between` is in their bounds. The order is that of the values at `order`, then of the IDs; `after`
    is the (value, ID) of the last one seen."""

    equal: Mapping[str, str | int | bool]
    text: str
    within: Sequence[str]
    order: str
    descending: bool
    after: tuple[str | float, str] | None
    limit: int
    between: Mapping[str, Between] = {}


class Outcome(Enum):
    APPLIED = "applied"
    FENCED = "fenced"
    UNKNOWN = "unknown"


class StoreError(Exception):
    """The store did not answer, or not in a way that tells what happened."""


class Store(Protocol):
    """Every method but `commit` raises `StoreError`; reads are of majority-committed documents."""

    async def open(self, type: str, indexes: Iterable[tuple[str, ...]] = ()) -> None:
        """Make ready for objects of a type, and for searches by these paths in the state: idempotent."""

    async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        """Claim documents, making those that are missing; the documents that were won, by ID."""

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        """Apply each update whose owner and previous commit match; never raises but for cancellation."""

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these IDs, without claiming them."""

    async def page(self, type: str, after: str, limit: int) -> list[Document]:
        """Existing objects in the order of their IDs, those greater than `after`; without what only
        an activation needs (replies and outbox)."""

    async def find(self, type: str, wanted: Find) -> list[Document]:
        """Existing objects by their states, in the order asked for; as `page` shows them."""

    async def pending(self, type: str, after: str, limit: int) -> list[str]:
        """IDs greater than `after`, in their order, of objects whose outbox is not empty."""

    async def purge(self, type: str, before: datetime) -> int:
        """Remove tombstones last committed before the moment, if nothing waits in their outboxes."""

    async def archive(self, type: str, id: str, records: Iterable[tuple[str, dict[str, Any], datetime]]) -> None:
        """Keep completion records (key, record, end of life) outside the document."""

    async def archived(self, type: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """The archived records of these (object ID, key) pairs."""

    async def forget(self, type: str, id: str) -> None:
        """Remove an object's archived records."""

    async def bury(self, letter: dict[str, Any]) -> None:
        """Keep what couldn't be delivered; `letter["_id"]` makes it idempotent."""

    async def ping(self) -> None:
        """Return when the store answers."""
