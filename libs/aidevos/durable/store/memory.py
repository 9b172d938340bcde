"""The in-memory store, for unit tests. It keeps the same contract as MongoDB and can inject faults."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.store import codec
from aidevos.durable.store.conditions import EVERYTHING, MISSING, Condition, Path, at, matches
from aidevos.durable.store.port import (
    TIME_LIMIT,
    Claim,
    Commit,
    CommitPoint,
    Document,
    Find,
    Outcome,
    StoreError,
    count_up_to,
    search_too_slow,
)

# Fields that searches and pages leave empty.
HIDDEN: dict[str, Any] = {"replies": {}, "history": {}, "outbox": {}, "alarms": {}}


class MemoryStore:
    """A store in memory with scripted faults.

    Each entry of `faults` applies to one of the next batches of commits. `"fail"` doesn't apply the batch and `"lose"`
    does; in both cases the outcome is unknown. An `asyncio.Event` delays the batch until the event is set. While `down`
    is set, every call fails. While `slow` is set, every search exceeds its time limit.
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, dict[str, Any]]] = {}
        self.faults: deque[str | asyncio.Event] = deque()
        self.commits = 0
        self.down = False
        self.slow = False
        # What was there at each moment that was asked for.
        self._moments: dict[str, dict[str, dict[str, Any]]] = {}
        self._archive: dict[tuple[str, str, str], dict[str, Any]] = {}
        # Versions outside the documents, by type and ID.
        self.versions: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}

    async def open(
        self,
        type: str,
        indexes: Iterable[tuple[str, ...]] = (),
        sparse: Iterable[tuple[str, ...]] = (),
        *,
        history: bool = False,
    ) -> None:
        self.documents.setdefault(type, {})

    async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        self._require_up()
        for claim in claims:
            document = self.documents[type].setdefault(claim.id, _new_document(claim.partition))
            document["epoch"] = document.get("epoch", 0) + 1
            document["turn"] = document.get("turn", 0) + 1
            document["owner"] = document["by"] = claim.owner
            document.pop("expected", None)
        return await self.read(type, [claim.id for claim in claims])

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, asyncio.Event):
            await fault.wait()
        self.commits += 1
        if fault == "fail" or self.down:
            return [Outcome.UNKNOWN for _ in commits]
        outcomes = [self._apply(type, commit) for commit in commits]
        return [Outcome.UNKNOWN for _ in commits] if fault == "lose" else outcomes

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        self._require_up()
        found = [self.documents[type].get(point.id, {}) for point in points]
        unchanged = [
            document
            for document, point in zip(found, points, strict=True)
            if (document.get("owner"), document.get("commit")) == (point.owner, point.commit)
        ]
        for document in unchanged:
            document["outbox"] = {}
            document.pop("relay", None)
        return len(unchanged) == len(points)

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        self._require_up()
        found = self.documents[type]
        return {id: _document(id, found[id]) for id in ids if id in found}

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
        self._require_up()
        found = {id: document for id, document in self.documents[type].items() if document.get("deleted") is None}
        ids = sorted(id for id, document in found.items() if id > after and _belongs_to(document, project))
        hidden = HIDDEN if with_state else HIDDEN | {"state": None}
        return _take_up_to(size, (_document(id, found[id] | hidden) for id in ids[:limit]))

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
        self._require_up()
        if moment is None:
            moment = f"{len(self._moments)}.0"
            self._moments[moment] = copy.deepcopy(self.documents[type])
        if moment not in self._moments:
            raise Failure("invalid", "this is no moment of an export", field="moment")
        found = {
            id: document
            for id, document in self._moments[moment].items()
            if document.get("deleted") is None and id > after and matches(where, document["state"])
        }
        hidden = {name: HIDDEN[name] for name in HIDDEN if name != "alarms"}
        ids = sorted(id for id, document in found.items() if _belongs_to(document, project))
        return _take_up_to(size, (_document(id, found[id] | hidden) for id in ids[:limit])), moment

    async def count_in_project(self, type: str, project: str, within: int = TIME_LIMIT) -> int:
        return len(
            [document for _, document in self._search(type, EVERYTHING, within) if _belongs_to(document, project)]
        )

    async def find(self, type: str, wanted: Find) -> list[Document]:
        matching = self._search(type, wanted.where, wanted.within)
        found = [((_order_value(document, wanted), id), document) for id, document in matching]
        found.sort(key=lambda item: item[0], reverse=wanted.descending)
        if wanted.after is not None:
            after = wanted.after
            found = [item for item in found if (item[0] < after if wanted.descending else item[0] > after)]
        shown = [_document(id, document | HIDDEN) for (_, id), document in found[: wanted.limit]]
        if wanted.only is not None:
            for document in shown:
                document.version, document.state = 0, _select_paths(document.state or {}, wanted.only)
        return _take_up_to(wanted.size, shown)

    async def count(self, type: str, where: Condition, within: int = TIME_LIMIT, limit: int | None = None) -> int:
        return len(self._search(type, where, within)[:limit])

    async def list_pending(self, type: str, partitions: Collection[int], after: str, limit: int) -> list[str]:
        found = self._select_partitions(type, partitions)
        return sorted(id for id, document in found.items() if id > after and document.get("relay"))[:limit]

    async def list_due(
        self, type: str, partitions: Collection[int], after: float, until: float, limit: int
    ) -> list[tuple[str, float]]:
        times = ((document.get("alarm_at"), id) for id, document in self._select_partitions(type, partitions).items())
        found = sorted((at, id) for at, id in times if at is not None and after < at <= until)
        return [(id, at) for at, id in found[:limit]]

    async def purge(self, type: str, partitions: Collection[int], before: datetime) -> int:
        purged = [
            id
            for id, document in self._select_partitions(type, partitions).items()
            if document.get("deleted") and document["deleted"] < before and not document.get("relay")
        ]
        for id in purged:
            self.versions.pop((type, id), None)
            del self.documents[type][id]
        return len(purged)

    async def archive(self, type: str, id: str, records: Iterable[tuple[str, dict[str, Any], datetime]]) -> None:
        self._require_up()
        for key, record, _ in records:
            self._archive[type, id, key] = record

    async def read_archived(self, type: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        self._require_up()
        return {key: self._archive[type, *key] for key in keys if (type, *key) in self._archive}

    async def delete_archived(self, type: str, id: str) -> None:
        self._require_up()
        for key in [key for key in self._archive if key[:2] == (type, id)]:
            del self._archive[key]

    async def keep_versions(
        self, type: str, id: str, versions: Sequence[tuple[int, dict[str, Any], datetime | None]], lowest: int
    ) -> None:
        self._require_up()
        kept = self.versions.get((type, id), {}) | {number: version for number, version, _ in versions}
        self.versions[type, id] = {number: version for number, version in kept.items() if number >= lowest}

    async def read_versions(
        self, type: str, id: str, first: int, last: int, limit: int, *, with_state: bool = True
    ) -> dict[int, dict[str, Any]]:
        self._require_up()
        kept = self.versions.get((type, id), {})
        numbers = sorted((number for number in kept if first <= number <= last), reverse=True)[:limit]
        hidden = () if with_state else ("d",)
        return {number: {key: kept[number][key] for key in kept[number] if key not in hidden} for number in numbers}

    async def ping(self) -> None:
        self._require_up()

    def _require_up(self) -> None:
        if self.down:
            raise StoreError("the store is down")

    def _select_partitions(self, type: str, partitions: Collection[int]) -> dict[str, dict[str, Any]]:
        self._require_up()
        found = self.documents[type].items()
        return {id: document for id, document in found if document.get("partition") in partitions}

    def _search(self, type: str, where: Condition, within: int) -> list[tuple[str, dict[str, Any]]]:
        self._require_up()
        if self.slow:
            raise search_too_slow(within)
        return [
            (id, document)
            for id, document in self.documents[type].items()
            if document.get("deleted") is None and matches(where, document["state"])
        ]

    def _apply(self, type: str, commit: Commit) -> Outcome:
        documents = self.documents[type]
        document = documents.get(commit.id)
        if document is None:
            document = {} if commit.founding is None else _found(commit.owner, commit.founding)
        turn = document.get("turn", 0) + 1
        if not _accepts(document, commit.owner, turn, commit.expected):
            return Outcome.FENCED if commit.founding is None else Outcome.EXISTS
        documents[commit.id] = document
        document |= {"commit": commit.commit, "by": commit.owner, "turn": turn, "expected": commit.expected}
        for path, value in commit.set.items():
            parent, name = _parent(document, path)
            parent[name] = codec.decode(value.raw) if isinstance(value, codec.Encoded) else value
        for path in commit.unset:
            parent, name = _parent(document, path)
            parent.pop(name, None)
        return Outcome.APPLIED


def _accepts(document: dict[str, Any], by: str, turn: int, expected: int) -> bool:
    """Return True if a document may become what a commit makes of it, by the same rule as MongoDB's validator."""
    return document.get("owner") == by and turn == expected and "created_at" in document


def _found(owner: str, partition: int) -> dict[str, Any]:
    return _new_document(partition) | {"epoch": 1, "owner": owner}


def _belongs_to(document: dict[str, Any], project: str | None) -> bool:
    return project is None or document.get("project") == (project or None)


def _new_document(partition: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"created_at": now, "deleted": now, "updated_at": now, "partition": partition, "version": 0}


def _order_value(document: dict[str, Any], wanted: Find) -> Any:
    return at(document["state"], wanted.order) if wanted.order is not None else None


def _parent(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *folders, name = path.split(".")
    for folder in folders:
        document = document.setdefault(folder, {})
    return document, name


def _take_up_to(size: int | None, documents: Iterable[Document]) -> list[Document]:
    taken: list[Document] = []

    def measure() -> Iterator[int]:
        for document in documents:
            document.size = len(codec.encode(document.state or {}))
            taken.append(document)
            yield document.size

    count_up_to(size, measure())
    return taken


def _select_paths(state: dict[str, Any], paths: Sequence[Path]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for path in paths:
        value = at(state, path)
        if value is not MISSING:
            parent, name = _parent(kept, ".".join(path))
            parent[name] = value
    return kept


def _document(id: str, document: dict[str, Any]) -> Document:
    known = {key: value for key, value in document.items() if key in Document.__struct_fields__}
    return msgspec.convert(copy.deepcopy(known) | {"id": id}, Document)
