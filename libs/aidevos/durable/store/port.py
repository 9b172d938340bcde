"""The port to the store.

Promise: one document is one object, and one commit is one atomic update of it. A claim gives a document a new owner ID
that is never reused, and counts as a turn of the document, as each commit does. A commit must match that owner, and the
turn that follows the last one that its owner knows (the fence). So of two owners only the newer one can write, and only
over what it has seen. Neither depends on a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.store.conditions import Condition, Path

# The default time limit of a search, in milliseconds.
TIME_LIMIT = 5_000
# The most bytes of documents that a page of a search or list reads, and that a view may read at once.
PAGE_BYTES = 8 * 1024 * 1024
VIEW_BYTES = 32 * 1024 * 1024
# So many objects are found in one step, which takes no thread of a driver.
FEW = 32


class Match(msgspec.Struct):
    """An object that a search has found. `size` is that of its document in bytes."""

    id: str
    state: dict[str, Any] | None = None
    schema: int = 1
    size: int = 0
    version: int = 0


class Document(Match, kw_only=True):
    """An object in the store.

    `deleted` is set on a tombstone, and on a document that a claim has created and no commit has filled yet.
    """

    owner: str | None = None
    epoch: int = 0
    # The number of claims and commits so far.
    turn: int = 0
    commit: str | None = None
    partition: int = 0
    replies: dict[str, Any] = msgspec.field(default_factory=dict)
    archived: bool = False
    history: dict[str, Any] = msgspec.field(default_factory=dict)
    outbox: dict[str, Any] = msgspec.field(default_factory=dict)
    outbox_last: int = 0
    alarms: dict[str, Any] = msgspec.field(default_factory=dict)
    alarm_at: float | None = None
    deleted: datetime | None = None
    made_at: datetime | None = None
    project: str | None = None
    updated_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.deleted is None


class Claim(NamedTuple):
    """A request to own a document. `owner` is a new, unique ID."""

    id: str
    owner: str
    partition: int


class Commit(NamedTuple):
    """One atomic update, as dotted paths to set and to unset.

    `expected` is the document's turn after it: one more than after the owner's claim or last commit, and 1 for a
    founding commit. `size` is an upper bound of the encoded update, in bytes. `founding` is the partition of a founding
    commit, which claims and creates the document and fails if it exists.
    """

    id: str
    owner: str
    expected: int
    commit: str
    set: dict[str, Any]
    unset: Sequence[str]
    size: int
    founding: int | None = None


class CommitPoint(NamedTuple):
    """A document's state in time: its owner and its last commit."""

    id: str
    owner: str
    commit: str


class Find(NamedTuple):
    """A search for at most `limit` objects by their states.

    The result is sorted by the value at the path `order`, then by ID; without `order`, by ID alone. The values at
    `order` must be all numbers or all text. `after` is the (value, ID) of the last object seen. `within` is the time
    limit in milliseconds. With `size`, the search stops soon after it has found that many bytes. With `only`, the
    states contain only these paths, and the versions are left out.
    """

    where: Condition
    limit: int
    order: Path | None = None
    descending: bool = False
    after: tuple[str | float | None, str] | None = None
    within: int = TIME_LIMIT
    size: int | None = None
    only: Sequence[Path] | None = None


class Outcome(Enum):
    """The outcome of a commit.

    `FENCED`: the document has another owner or turn, or doesn't exist. `EXISTS`: a founding commit found a
    document. `UNKNOWN`: the commit may or may not have been applied, or may still be.
    """

    APPLIED = "applied"
    FENCED = "fenced"
    EXISTS = "exists"
    UNKNOWN = "unknown"


def search_too_slow(within: int) -> Failure:
    """Return the failure for a search that exceeded its time limit in milliseconds."""
    detail = f"the search took longer than {within} ms: declare an index that serves it, or ask for less"
    return Failure("too-slow", detail)


def count_up_to(size: int | None, sizes: Iterable[int]) -> int:
    """Return how many of the documents with these sizes are needed to reach `size` bytes, or the number of all."""
    total = count = 0
    for each in sizes:
        count, total = count + 1, total + each
        if size is not None and total >= size:
            break
    return count


class StoreError(Exception):
    """Raised when the store doesn't answer, or its answer leaves open what happened."""


class Unfenced(StoreError):
    """Raised when the store accepts a commit that the fence should refuse."""


class Store(Protocol):
    """A store of objects.

    Every method except `commit` may raise `StoreError`. Reads see majority-committed data only.
    """

    async def open(
        self,
        type: str,
        indexes: Iterable[tuple[str, ...]] = (),
        sparse: Iterable[tuple[str, ...]] = (),
        *,
        history: bool = False,
    ) -> None:
        """Create the collection of a type and its indexes, unless they exist, and drop those that nothing uses now.

        Make sure that the fence holds in it. Raises `Unfenced` if it doesn't.

        Each index is a tuple of paths in the state. A `sparse` one covers only states that have a value at its last
        path. With `history`, create the collection of the type's versions too.
        """

    async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        """Claim documents, creating missing ones. Return the documents that were won, by ID."""

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        """Apply each update whose owner and turn match. Return the outcomes in order.

        Nothing but a cancellation is raised.
        """

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        """Empty the outboxes of documents that are still at these commits, in one update and without a commit.

        Return True if every document was cleared.
        """

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        """Return the documents with these IDs, by ID, without claiming them. Tombstones are included."""

    async def list_page(
        self,
        type: str,
        after: str,
        limit: int,
        project: str | None = None,
        *,
        size: int | None = None,
        with_state: bool = True,
    ) -> list[Document]:
        """Return existing objects with IDs greater than `after`, sorted by ID.

        Replies, history, outbox and alarms are left empty, and without `with_state` the states as well. With a
        `project`, return only its objects; with "", only objects without a project. With `size`, stop soon after that
        many bytes.
        """

    async def count_in_project(self, type: str, project: str, within: int = TIME_LIMIT) -> int:
        """Count the existing objects of a project; with "", those without a project.

        Raises `too-slow` after `within` milliseconds.
        """

    async def find(self, type: str, wanted: Find) -> Sequence[Match]:
        """Return existing objects by their states.

        Raises `too-slow` when the time limit is exceeded.
        """

    async def read_moment(
        self,
        type: str,
        where: Condition,
        after: str,
        limit: int,
        project: str | None = None,
        *,
        size: int,
        moment: str | None = None,
    ) -> tuple[list[Document], str]:
        """Return existing objects with IDs greater than `after`, sorted by ID, as of a moment, and that moment.

        By default, it is now. The condition is true of the states. Replies, history and outbox are left empty. With a
        `project`, return only its objects; with "", only objects without a project. Stop soon after `size` bytes.
        Raises `conflict` for a moment that is too long ago, and `invalid` for one that isn't of this store.
        """

    async def count(self, type: str, where: Condition, within: int = TIME_LIMIT, limit: int | None = None) -> int:
        """Count the existing objects of whose states the condition is true, up to `limit`.

        Raises `too-slow` after `within` milliseconds.
        """

    async def list_pending(self, type: str, partitions: Collection[int], after: str, limit: int) -> list[str]:
        """Return the IDs greater than `after` of objects in these partitions with a non-empty outbox, sorted."""

    async def list_due(
        self, type: str, partitions: Collection[int], after: float, until: float, limit: int
    ) -> list[tuple[str, float]]:
        """Return (ID, time) of the objects in these partitions whose earliest alarm is in (`after`, `until`].

        They are sorted by time.
        """

    async def purge(self, type: str, partitions: Collection[int], before: datetime) -> int:
        """Remove some tombstones of these partitions that were last committed before this time and have no outbox.

        Their versions are removed before them. Return their number; 0 means that none are left.
        """

    async def archive(self, type: str, id: str, records: Iterable[tuple[str, dict[str, Any], datetime]]) -> None:
        """Store completion records, as (key, record, expiry time), outside the document."""

    async def read_archived(self, type: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the archived records with these (object ID, key) pairs, by pair."""

    async def delete_archived(self, type: str, id: str) -> None:
        """Remove an object's archived records."""

    async def keep_versions(
        self, type: str, id: str, versions: Sequence[tuple[int, dict[str, Any], datetime | None]], lowest: int
    ) -> None:
        """Store versions of an object, as (number, version, expiry time), outside the document.

        Remove those whose numbers are below `lowest`.
        """

    async def read_versions(
        self, type: str, id: str, first: int, last: int, limit: int, *, with_state: bool = True
    ) -> dict[int, dict[str, Any]]:
        """Return the versions of an object from `first` to `last` that `keep_versions` has stored, the newest `limit`.

        Without `with_state`, leave out their states.
        """

    async def ping(self) -> None:
        """Return once the store has answered."""
