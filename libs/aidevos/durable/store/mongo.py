"""The store on MongoDB.

Promise: every write is acknowledged by a majority and journaled. Every read returns majority-committed data from the
primary. A fenced commit changes nothing and never brings a purged object back.

Commits and most reads (`mongo_finder`) are sent by the event loop itself (`mongo_channels`). What else the driver's
threads do leaves half of them to claims and to the reads that load objects.

The fence is a validator of the collection (`mongo_fence`). Without it, nothing would stop an old owner. So `open` sets
it where it is missing or different, and then tries it on stale commits.

A commit is known to be applied only if the server says so of the whole batch, and without a write concern error. It is
known to be refused only by the fence. Any other outcome is unknown, and the framework resolves it with a new claim. The
driver never sends a commit again. It repeats a claim whose answer is lost, which the server recognizes.
"""

from __future__ import annotations

import linecache
import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

from bson import MaxKey, MinKey
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import IndexModel, ReadPreference, UpdateOne, WriteConcern
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from aidevos.durable.store.conditions import Condition, Path
from aidevos.durable.store.mongo_channels import Channels
from aidevos.durable.store.mongo_fence import build_claim, build_commit, ensure_fence, read_outcomes, stale_commits
from aidevos.durable.store.mongo_filter import all_of, compile_condition, field
from aidevos.durable.store.mongo_finder import MongoFinder, run
from aidevos.durable.store.mongo_history import keep_versions, purge_versions, version_range
from aidevos.durable.store.port import (
    TIME_LIMIT,
    Claim,
    Commit,
    CommitPoint,
    Document,
    Find,
    Match,
    Outcome,
    StoreError,
    Unfenced,
)

Documents: TypeAlias = AsyncIOMotorCollection[dict[str, Any]]
T = TypeVar("T")
WRITE_TIMEOUT_MS = 10_000
CLOSE_WITHIN = 1.0
# Tombstones that one purge looks at.
PURGE_PAGE = 1000
INDEX_NOT_FOUND = 27
# Indexes of earlier versions, which ignored partitions.
OBSOLETE_INDEXES = ("relay_1__id_1", "deleted_1", "alarm_at_1")
# The work of a partition. A sparse index would cover every document, because each has a partition.
PENDING = {"partition": 1, "relay": 1, "_id": 1}
DUE = {"partition": 1, "alarm_at": 1}
GONE = {"partition": 1, "deleted": 1}
# Partitions that one sorted query asks for. MongoDB merges at most 200 sorted scans of an index
# (internalQueryMaxScansToExplode); with more it would read everything and sort it.
PARTITIONS_AT_ONCE = 64
LIVE: dict[str, Any] = {"deleted": {"$eq": None}}
FIELDS = frozenset(Document.__struct_fields__) - {"id", "size"}


def collections_of(type: str) -> tuple[str, str, str]:
    """Return the names of the collections of a type: its objects, their archived completion records and versions."""
    return f"obj_{type}", f"replies_{type}", f"history_{type}"


class MongoStore:
    """A store in one database of a MongoDB replica set.

    `timeout` is the longest wait for the primary, in seconds. `listeners` observe the driver's commands. `tls` has the
    driver's options of TLS.
    """

    def __init__(
        self,
        url: str,
        database: str,
        *,
        timeout: float = 5.0,
        listeners: Sequence[CommandListener] = (),
        tls: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._client: Any = AsyncIOMotorClient(
            url,
            serverSelectionTimeoutMS=int(timeout * 1000),
            connectTimeoutMS=int(timeout * 1000),
            socketTimeoutMS=WRITE_TIMEOUT_MS + 5000,
            retryWrites=True,
            appname="aidevos",
            event_listeners=list(listeners),
            **tls,
        )
        # The driver notes where it was made, and thereby leaves the source of all files on the way in memory.
        linecache.clearcache()
        self._database = self._client.get_database(
            database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True, wtimeout=WRITE_TIMEOUT_MS),
        )
        self._channels = Channels(self._client.delegate, database, WRITE_TIMEOUT_MS / 1000 + 5)
        self._finder = MongoFinder(self._database, self._channels)
        # The types whose archived completion records end by themselves.
        self._archives: set[str] = set()

    async def open(
        self,
        type: str,
        indexes: Iterable[tuple[str, ...]] = (),
        sparse: Iterable[tuple[str, ...]] = (),
        *,
        history: bool = False,
    ) -> None:
        await run(lambda: ensure_fence(self._database, collections_of(type)[0]))
        await run(lambda: self._ensure_indexes(type, _indexes(indexes, sparse)))
        if history:
            await run(lambda: self._versions(type).create_index("end", expireAfterSeconds=0))
        await self._prove_fence(type)

    async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        now = datetime.now(UTC)
        updates = [UpdateOne({"_id": claim.id}, build_claim(claim, now), upsert=True) for claim in claims]
        await run(lambda: self._objects(type).bulk_write(updates, ordered=False))
        documents = await self.read(type, [claim.id for claim in claims])
        owners = {claim.id: claim.owner for claim in claims}
        return {id: document for id, document in documents.items() if document.owner == owners[id]}

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        now = datetime.now(UTC)
        try:
            answer = await self._update(type, [build_commit(commit, now) for commit in commits])
        except Exception:  # the batch may have been applied in part, whatever the error was
            return [Outcome.UNKNOWN] * len(commits)
        return read_outcomes(commits, answer)

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        # Owners and commits are unique across documents, so the three lists can't match in a wrong combination.
        ids, owners, commits = (list(column) for column in zip(*points, strict=True))
        unchanged = {"_id": {"$in": ids}, "owner": {"$in": owners}, "commit": {"$in": commits}}
        update = {"$set": {"outbox": {}}, "$unset": {"relay": ""}}
        answer = await run(lambda: self._update(type, [{"q": unchanged, "u": update, "multi": True}]))
        return answer["n"] == len(points) and answer.keys().isdisjoint(("writeErrors", "writeConcernError"))

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        found = await self._finder.find(collections_of(type)[0], {"_id": {"$in": list(ids)}}, len(ids), waits=False)
        return {each["_id"]: _document(each, size) for each, size in found}

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
        wanted: dict[str, Any] = LIVE | {"_id": {"$gt": after}}
        if project is not None:
            wanted["project"] = project or None
        shown = _projection(None) | ({} if with_state else {"state": False})
        return await self._search(type, wanted, limit, size=size, sort={"_id": 1}, projection=shown)

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
        clauses = [LIVE, {"_id": {"$gt": after}}, compile_condition(where)]
        wanted = all_of([*clauses, *([] if project is None else [{"project": {"$eq": project or None}}])])
        shown = {"replies": False, "history": False, "outbox": False}
        found, shown_at = await self._finder.find_at(
            collections_of(type)[0], limit, size, moment, filter=wanted, sort={"_id": 1}, projection=shown
        )
        return [_document(each, length) for each, length in found], shown_at

    async def find(self, type: str, wanted: Find) -> Sequence[Match]:
        clauses = _live(compile_condition(wanted.where))
        path = field(wanted.order) if wanted.order is not None else None
        if wanted.after is not None:
            clauses += _positions_after(path, wanted.after, "lt" if wanted.descending else "gt")
        direction = -1 if wanted.descending else 1
        found = await self._finder.find(
            collections_of(type)[0],
            all_of(clauses) if len(clauses) > 1 else clauses[0],
            wanted.limit,
            within=wanted.within,
            size=wanted.size,
            sort={name: direction for name in (path, "_id") if name is not None},
            projection=_projection(wanted.only),
        )
        make = _document if wanted.only is None else _match
        return [make(each, size) for each, size in found]

    async def count(self, type: str, where: Condition, within: int = TIME_LIMIT, limit: int | None = None) -> int:
        counted = all_of(_live(compile_condition(where)))
        return await self._count(type, counted, within, limit)

    async def count_in_project(self, type: str, project: str, within: int = TIME_LIMIT) -> int:
        return await self._count(type, LIVE | {"project": project or None}, within)

    async def list_pending(self, type: str, partitions: Collection[int], after: str, limit: int) -> list[str]:
        waiting = {"relay": True, "_id": {"$gt": after}}
        return [document.id for document in await self._list_sorted(type, partitions, waiting, PENDING, limit)]

    async def list_due(
        self, type: str, partitions: Collection[int], after: float, until: float, limit: int
    ) -> list[tuple[str, float]]:
        waiting = {"alarm_at": {"$gt": after, "$lte": until}}
        found = await self._list_sorted(type, partitions, waiting, DUE, limit)
        return [(document.id, document.alarm_at or 0.0) for document in found]

    async def purge(self, type: str, partitions: Collection[int], before: datetime) -> int:
        gone = {"deleted": {"$lt": before}, "relay": None}
        wanted = gone | {"partition": {"$in": list(partitions)}}
        shown = {"owner": True, "commit": True, "version": True, "history.first": True}
        found = await self._search(type, wanted, PURGE_PAGE, projection=shown, hint=GONE)
        if not found:
            return 0
        recorded = [(document.id, document.version) for document in found if document.history]
        if recorded:
            await self._finder.run_apart(lambda: purge_versions(self._versions(type), recorded))
        # As in `clear_outboxes`, the lists can't match in a wrong combination. A document without a commit was only
        # claimed; its owner alone is unique as well.
        fence = gone | {
            "_id": {"$in": [document.id for document in found]},
            "owner": {"$in": [document.owner for document in found]},
            "commit": {"$in": [document.commit for document in found]},
        }
        result = await self._finder.run_apart(lambda: self._objects(type).delete_many(fence))
        return int(result.deleted_count)

    async def archive(self, type: str, id: str, records: Iterable[tuple[str, dict[str, Any], datetime]]) -> None:
        updates = [
            UpdateOne({"_id": {"o": id, "k": key}}, {"$set": {"record": record, "end": end}}, upsert=True)
            for key, record, end in records
        ]
        if type not in self._archives:
            await self._finder.run_apart(lambda: self._open_archive(type))
        await self._finder.run_apart(lambda: self._records(type).bulk_write(updates, ordered=False))

    async def read_archived(self, type: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        wanted = {"_id": {"$in": [{"o": id, "k": key} for id, key in keys]}}
        found = await self._finder.find(collections_of(type)[1], wanted, len(keys))
        return {(record["_id"]["o"], record["_id"]["k"]): record["record"] for record, _ in found}

    async def delete_archived(self, type: str, id: str) -> None:
        of_object = {"$gte": {"o": id, "k": MinKey()}, "$lte": {"o": id, "k": MaxKey()}}
        await self._finder.run_apart(lambda: self._records(type).delete_many({"_id": of_object}))

    async def keep_versions(
        self, type: str, id: str, versions: Sequence[tuple[int, dict[str, Any], datetime | None]], lowest: int
    ) -> None:
        await self._finder.run_apart(lambda: keep_versions(self._versions(type), id, versions, lowest))

    async def read_versions(
        self, type: str, id: str, first: int, last: int, limit: int, *, with_state: bool = True
    ) -> dict[int, dict[str, Any]]:
        options: dict[str, Any] = {"sort": {"_id": -1}} | ({} if with_state else {"projection": {"version.d": False}})
        found = await self._finder.find(collections_of(type)[2], version_range(id, first, last), limit, **options)
        return {document["_id"]["v"]: document["version"] for document, _ in found}

    async def ping(self) -> None:
        await run(lambda: self._database.command("ping"))

    def close(self) -> None:
        """Close the connections. A server that doesn't answer isn't waited for: the driver would say goodbye first."""
        self._channels.close()
        closing = threading.Thread(target=self._client.close, daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN)

    async def _update(self, type: str, statements: list[dict[str, Any]]) -> dict[str, Any]:
        """Send statements in one command, which is never repeated, and return the answer. Raises `PyMongoError`."""
        command = {
            "update": collections_of(type)[0],
            "updates": statements,
            "ordered": False,
            "writeConcern": self._database.write_concern.document,
        }
        answer: dict[str, Any] = await self._channels.command(command)
        return answer

    def _objects(self, type: str) -> Documents:
        return self._database[collections_of(type)[0]]

    def _records(self, type: str) -> Documents:
        return self._database[collections_of(type)[1]]

    def _versions(self, type: str) -> Documents:
        return self._database[collections_of(type)[2]]

    async def _prove_fence(self, type: str) -> None:
        """Try stale commits on a document that is no object. Raises `Unfenced` if one of them is applied."""
        probe = f"!{uuid4().hex}"
        claimed = await self.claim(type, [Claim(probe, probe, 0)])
        stale = stale_commits(probe, claimed[probe].turn)
        try:
            outcomes = await self.commit(type, stale)
        finally:
            tried = [probe, *(commit.id for commit in stale)]
            await run(lambda: self._objects(type).delete_many({"_id": {"$in": tried}}))
        if Outcome.APPLIED in outcomes:
            name = collections_of(type)[0]
            raise Unfenced(f"the collection {name} takes commits of former owners: its validator doesn't work")
        if Outcome.UNKNOWN in outcomes:
            raise StoreError("MongoDB: the fence could not be tried")

    async def _ensure_indexes(self, type: str, indexes: list[IndexModel]) -> None:
        command = {
            "createIndexes": collections_of(type)[0],
            "indexes": [index.document for index in indexes],
            "writeConcern": self._database.write_concern.document,
        }
        answer = await self._database.command(command)
        if error := answer.get("writeConcernError"):
            raise StoreError(f"MongoDB: the indexes of {type} aren't durable: {error}")
        names = {index.document["name"] for index in indexes}
        # There is one on `_id`, too. A sharded cluster doesn't say how many there are.
        if answer.get("numIndexesAfter", math.inf) > len(names) + 1:
            await self._drop_obsolete_indexes(type)
        # Most types never need one, and MongoDB takes 65 KB of memory for each collection and each index.
        if await self._records(type).find_one({}, {"_id": True}):
            await self._open_archive(type)

    async def _open_archive(self, type: str) -> None:
        await self._records(type).create_index("end", expireAfterSeconds=0)
        self._archives.add(type)

    async def _drop_obsolete_indexes(self, type: str) -> None:
        for name in OBSOLETE_INDEXES:
            try:
                await self._objects(type).drop_index(name)
            except OperationFailure as error:
                if error.code != INDEX_NOT_FOUND:
                    raise

    async def _list_sorted(
        self, type: str, partitions: Collection[int], waiting: dict[str, Any], index: dict[str, int], limit: int
    ) -> list[Document]:
        """Return the first documents in the order of the last field of the index, with only this field.

        Without the hint, MongoDB may walk all IDs, because they are sorted too.
        """
        by = [*index][-1]
        options: dict[str, Any] = {"sort": {by: 1}, "projection": {by: True}, "hint": index}
        first: list[Document] = []
        wanted = sorted(partitions)
        for start in range(0, len(wanted), PARTITIONS_AT_ONCE):
            some = waiting | {"partition": {"$in": wanted[start : start + PARTITIONS_AT_ONCE]}}
            first += await self._search(type, some, limit, **options)
            first = sorted(first, key=attrgetter(by.removeprefix("_")))[:limit]
        return first

    async def _count(self, type: str, wanted: dict[str, Any], within: int, limit: int | None = None) -> int:
        bounds: dict[str, Any] = {"maxTimeMS": within} | ({} if limit is None else {"limit": limit})
        return await self._finder.run_apart(lambda: self._objects(type).count_documents(wanted, **bounds), within)

    async def _search(
        self, type: str, wanted: dict[str, Any], limit: int, size: int | None = None, **options: Any
    ) -> list[Document]:
        found = await self._finder.find(collections_of(type)[0], wanted, limit, size=size, **options)
        return [_document(each, length) for each, length in found]


def _projection(only: Sequence[Path] | None) -> dict[str, bool]:
    if only is None:
        return {"replies": False, "history": False, "outbox": False, "alarms": False}
    outer = [path for path in only if not any(path[: len(other)] == other for other in only if len(other) < len(path))]
    return {"schema": True} | {field(path): True for path in outer}


def _live(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the clauses for existing objects that match a filter. Only existing objects have anything in a state."""
    tests = (test for name, test in wanted.items() if name.startswith("state."))
    return [wanted] if any("$eq" in test or "$gte" in test for test in tests) else [LIVE, wanted]


def _indexes(indexes: Iterable[tuple[str, ...]], sparse: Iterable[tuple[str, ...]]) -> list[IndexModel]:
    return [
        IndexModel(PENDING, partialFilterExpression={"relay": True}),
        IndexModel(DUE, partialFilterExpression={"alarm_at": {"$exists": True}}),
        IndexModel(GONE, partialFilterExpression={"deleted": {"$exists": True}}),
        IndexModel({"project": 1, "_id": 1}, partialFilterExpression={"project": {"$exists": True}}),
        *(IndexModel(_index_keys(paths)) for paths in indexes),
        *(
            IndexModel(_index_keys(paths), partialFilterExpression={f"state.{paths[-1]}": {"$exists": True}})
            for paths in sparse
        ),
    ]


def _index_keys(paths: tuple[str, ...]) -> dict[str, int]:
    return {f"state.{path}": 1 for path in paths} | {"_id": 1}


def _positions_after(path: str | None, after: tuple[str | float | None, str], side: str) -> list[dict[str, Any]]:
    """Return the clauses that select the positions after a (value, ID) pair.

    With a `path`, the first clause is redundant, but lets MongoDB bound the index scan.
    """
    value, id = after
    after_id = {"_id": {f"${side}": id}}
    if path is None:
        return [after_id]
    return [{path: {f"${side}e": value}}, {"$or": [{path: {f"${side}": value}}, after_id]}]


def _document(found: dict[str, Any], size: int) -> Document:
    return Document(id=found["_id"], size=size, **{name: found[name] for name in found if name in FIELDS})


def _match(found: dict[str, Any], size: int) -> Match:
    """Return what a search for parts of states has found, which takes a tenth of the time of a whole document."""
    return Match(found["_id"], found.get("state"), found.get("schema", 1), size)
