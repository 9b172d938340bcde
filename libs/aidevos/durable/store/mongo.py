"""The store on MongoDB.

Every write is acknowledged by a majority and journaled; every read is of majority-committed data
on the primary. A commit matches its owner and its predecessor *and* asks for an upsert: where it
matches nothing, the upsert would insert a document without `created_at`, which the collection's
validator refuses. So a fenced commit fails alone, with code 121 and its index in the batch, and
can never bring a purged object back.

An operation is known to be applied only when the whole answer is free of write concern errors, and
known to be fenced only by code 121, or by 11000 where it was to make the document. Everything else is
unknown, and the framework resolves it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from bson import MaxKey, MinKey
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ReadPreference, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, CollectionInvalid, ExecutionTimeout, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from aidevos.durable.store import codec
from aidevos.durable.store.conditions import Condition, Path
from aidevos.durable.store.mongo_filter import all_of, compile_condition, field
from aidevos.durable.store.port import (
    TIME_LIMIT,
    Claim,
    Commit,
    CommitPoint,
    Document,
    Find,
    Outcome,
    StoreError,
    search_too_slow,
)

Collection: TypeAlias = AsyncIOMotorCollection[dict[str, Any]]
T = TypeVar("T")
WRITE_TIMEOUT_MS = 10_000
CHUNK = 32
VALIDATION_FAILED = 121
DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48
LIVE: dict[str, Any] = {"deleted": {"$eq": None}}
FIELDS = [name for name in Document.__struct_fields__ if name != "id"]


class MongoStore:
    """`url` names a replica set; `timeout` bounds the wait for its primary, in seconds; `listeners`
    are told of the driver's commands."""

    def __init__(
        self, url: str, database: str, *, timeout: float = 5.0, listeners: Sequence[CommandListener] = ()
    ) -> None:
        self._client: Any = AsyncIOMotorClient(
            url,
            serverSelectionTimeoutMS=int(timeout * 1000),
            connectTimeoutMS=int(timeout * 1000),
            socketTimeoutMS=WRITE_TIMEOUT_MS + 5000,
            retryWrites=True,
            appname="aidevos",
            event_listeners=list(listeners),
        )
        self._database = self._client.get_database(
            database,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True, wtimeout=WRITE_TIMEOUT_MS),
        )

    async def open(
        self, type: str, indexes: Iterable[tuple[str, ...]] = (), sparse: Iterable[tuple[str, ...]] = ()
    ) -> None:
        async def make() -> None:
            name = f"obj_{type}"
            validator = {"created_at": {"$exists": True}}
            try:
                await self._database.create_collection(name, validator=validator)
            except CollectionInvalid:
                pass
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise
            collection = self._objects(type)
            await collection.create_index([("relay", 1), ("_id", 1)], partialFilterExpression={"relay": True})
            await collection.create_index("deleted", sparse=True)
            await collection.create_index("alarm_at", sparse=True)
            belonging = {"project": {"$exists": True}}
            await collection.create_index([("project", 1), ("_id", 1)], partialFilterExpression=belonging)
            for paths in indexes:
                await collection.create_index(_index(paths))
            for paths in sparse:
                there = {f"state.{paths[-1]}": {"$exists": True}}
                await collection.create_index(_index(paths), partialFilterExpression=there)
            await self._records(type).create_index("end", expireAfterSeconds=0)

        await self._answer(make)

    async def claim(self, type: str, claims: Sequence[Claim]) -> dict[str, Document]:
        now = datetime.now(UTC)
        updates = [
            UpdateOne(
                {"_id": claim.id},
                {
                    "$inc": {"epoch": 1},
                    "$set": {"owner": claim.owner},
                    "$setOnInsert": _fresh(now, claim.partition),
                },
                upsert=True,
            )
            for claim in claims
        ]
        await self._answer(lambda: self._objects(type).bulk_write(updates, ordered=False))
        documents = await self.read(type, [claim.id for claim in claims])
        owners = {claim.id: claim.owner for claim in claims}
        return {id: document for id, document in documents.items() if document.owner == owners[id]}

    async def commit(self, type: str, commits: Sequence[Commit]) -> list[Outcome]:
        updates = [_update(commit) for commit in commits]
        try:
            await self._objects(type).bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            return _outcomes(commits, dict(error.details or {}))
        except Exception:  # whatever it was, the batch may have been applied in part
            return [Outcome.UNKNOWN] * len(commits)
        return [Outcome.APPLIED] * len(commits)

    async def clear_outboxes(self, type: str, points: Sequence[CommitPoint]) -> bool:
        # No two documents ever have the same owner or commit, so these belong together.
        ids, owners, commits = (list(column) for column in zip(*points, strict=True))
        left = {"_id": {"$in": ids}, "owner": {"$in": owners}, "commit": {"$in": commits}}
        update = {"$set": {"outbox": {}}, "$unset": {"relay": ""}}
        result = await self._answer(lambda: self._objects(type).update_many(left, update))
        return bool(result.matched_count == len(points))

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        found = await self._find(f"obj_{type}", {"_id": {"$in": list(ids)}}, len(ids))
        return {document["_id"]: _document(document) for document in found}

    async def list_page(self, type: str, after: str, limit: int, project: str | None = None) -> list[Document]:
        wanted: dict[str, Any] = LIVE | {"_id": {"$gt": after}}
        if project is not None:
            wanted["project"] = project or None
        found = await self._find(f"obj_{type}", wanted, limit, sort={"_id": 1}, projection=_projection(None))
        return [_document(document) for document in found]

    async def find(self, type: str, wanted: Find) -> list[Document]:
        clauses = [LIVE, compile_condition(wanted.where)]
        path = field(wanted.order) if wanted.order is not None else None
        if wanted.after is not None:
            clauses += _beyond(path, wanted.after, "lt" if wanted.descending else "gt")
        direction = -1 if wanted.descending else 1
        found = await self._find(
            f"obj_{type}",
            all_of(clauses),
            wanted.limit,
            wanted.within,
            wanted.size,
            sort={name: direction for name in (path, "_id") if name is not None},
            projection=_projection(wanted.only),
        )
        return [_document(document) for document in found]

    async def count(self, type: str, where: Condition, within: int = TIME_LIMIT, limit: int | None = None) -> int:
        counted = all_of([LIVE, compile_condition(where)])
        bounds: dict[str, Any] = {"maxTimeMS": within} | ({} if limit is None else {"limit": limit})
        return await self._answer(lambda: self._objects(type).count_documents(counted, **bounds), within)

    async def count_in_project(self, type: str, project: str, within: int = TIME_LIMIT) -> int:
        wanted = LIVE | {"project": project}
        return await self._answer(lambda: self._objects(type).count_documents(wanted, maxTimeMS=within), within)

    async def list_pending(self, type: str, after: str, limit: int) -> list[str]:
        waiting = {"relay": True, "_id": {"$gt": after}}
        found = await self._find(f"obj_{type}", waiting, limit, sort={"_id": 1}, projection={"_id": True})
        return [document["_id"] for document in found]

    async def list_due(self, type: str, after: float, until: float, limit: int) -> list[tuple[str, float]]:
        waiting = {"alarm_at": {"$gt": after, "$lte": until}}
        found = await self._find(f"obj_{type}", waiting, limit, sort={"alarm_at": 1}, projection={"alarm_at": True})
        return [(document["_id"], document["alarm_at"]) for document in found]

    async def purge(self, type: str, before: datetime) -> int:
        gone = {"deleted": {"$lt": before}, "relay": None}
        found = await self._find(f"obj_{type}", gone, 1000, projection={"owner": True, "commit": True})
        purged = 0
        for document in found:
            fence = gone | {"_id": document["_id"], "owner": document["owner"], "commit": document.get("commit")}
            result = await self._answer(lambda fence=fence: self._objects(type).delete_one(fence))  # type: ignore[misc]
            purged += result.deleted_count
        return purged

    async def archive(self, type: str, id: str, records: Iterable[tuple[str, dict[str, Any], datetime]]) -> None:
        updates = [
            UpdateOne({"_id": {"o": id, "k": key}}, {"$set": {"record": record, "end": end}}, upsert=True)
            for key, record, end in records
        ]
        await self._answer(lambda: self._records(type).bulk_write(updates, ordered=False))

    async def read_archived(self, type: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
        wanted = {"_id": {"$in": [{"o": id, "k": key} for id, key in keys]}}
        found = await self._find(f"replies_{type}", wanted, len(keys))
        return {(document["_id"]["o"], document["_id"]["k"]): document["record"] for document in found}

    async def delete_archived(self, type: str, id: str) -> None:
        of_object = {"$gte": {"o": id, "k": MinKey()}, "$lte": {"o": id, "k": MaxKey()}}
        await self._answer(lambda: self._records(type).delete_many({"_id": of_object}))

    async def ping(self) -> None:
        await self._answer(lambda: self._database.command("ping"))

    def close(self) -> None:
        self._client.close()

    def _objects(self, type: str) -> Collection:
        return self._database[f"obj_{type}"]

    def _records(self, type: str) -> Collection:
        return self._database[f"replies_{type}"]

    async def _find(
        self,
        name: str,
        wanted: dict[str, Any],
        limit: int,
        within: int | None = None,
        size: int | None = None,
        **options: dict[str, Any],
    ) -> list[dict[str, Any]]:
        options["filter"] = wanted
        found = None
        if limit <= CHUNK:
            found = await self._answer(lambda: self._batch(name, limit, within, options), within)
        if found is None:
            found = await self._answer(lambda: self._batches(name, limit, within, size, options), within)
        documents = [codec.decode(document.raw) | {"size": len(document.raw)} for document in found]
        # The driver's cursor is part of a cycle, in which it would keep them until that is looked for.
        found.clear()
        return documents

    async def _batch(self, name: str, limit: int, within: int | None, options: dict[str, Any]) -> list[Any] | None:
        """What is found where it fits into one answer, which spares the driver its cursor; else None."""
        command = {"find": name, **options, "limit": limit, "maxTimeMS": within or WRITE_TIMEOUT_MS}
        command["readConcern"] = self._database.read_concern.document
        cursor = (await self._database.command(command, codec_options=codec.RAW))["cursor"]
        if not cursor["id"]:
            return cursor["firstBatch"]  # type: ignore[no-any-return]
        await self._database.command({"killCursors": name, "cursors": [cursor["id"]]})
        return None

    async def _batches(
        self, name: str, limit: int, within: int | None, size: int | None, options: dict[str, Any]
    ) -> list[Any]:
        cursor = self._database.get_collection(name, codec_options=codec.RAW).find(
            limit=limit, max_time_ms=within or WRITE_TIMEOUT_MS, **options
        )
        return await (cursor.to_list(limit) if size is None else _read_up_to(size, cursor.batch_size(CHUNK), limit))

    async def _answer(self, operation: Callable[[], Awaitable[T]], within: int | None = None) -> T:
        """What the operation gives; `within` is the time limit, in milliseconds, that it asked for."""
        try:
            return await operation()
        except PyMongoError as error:
            if within is not None and isinstance(error, ExecutionTimeout):
                raise search_too_slow(within) from error
            raise StoreError(f"MongoDB: {error}") from error


async def _read_up_to(size: int, cursor: Any, limit: int) -> list[Any]:
    """The first documents, up to about the one with which they have so many bytes."""
    found: list[Any] = []
    total = 0
    while total < size and len(found) < limit:
        more = await cursor.to_list(length=min(CHUNK, limit - len(found)))
        if not more:
            break
        total += sum(len(document.raw) for document in more)
        found += more
        more.clear()
    await cursor.close()
    return found


def _projection(only: Sequence[Path] | None) -> dict[str, bool]:
    if only is None:
        return {"replies": False, "outbox": False, "alarms": False}
    outer = [path for path in only if not any(path[: len(other)] == other for other in only if len(other) < len(path))]
    return {"version": True, "schema": True} | {field(path): True for path in outer}


def _index(paths: tuple[str, ...]) -> list[tuple[str, int]]:
    return [*((f"state.{path}", 1) for path in paths), ("_id", 1)]


def _beyond(path: str | None, after: tuple[str | float | None, str], side: str) -> list[dict[str, Any]]:
    """What stands behind a place in the order; the first clause alone bounds the scan of an index."""
    value, id = after
    behind = {"_id": {f"${side}": id}}
    if path is None:
        return [behind]
    return [{path: {f"${side}e": value}}, {"$or": [{path: {f"${side}": value}}, behind]}]


def _update(commit: Commit) -> UpdateOne:
    update: dict[str, Any] = {"$set": commit.set | {"commit": commit.commit}}
    if commit.unset:
        update["$unset"] = dict.fromkeys(commit.unset, "")
    if commit.founding is not None:
        # Nothing but a document that is there keeps the upsert from inserting.
        given = {*commit.set, *commit.unset}
        made = _fresh(datetime.now(UTC), commit.founding) | {"epoch": 1}
        update = {"$set": update["$set"], "$setOnInsert": {name: made[name] for name in made if name not in given}}
    return UpdateOne({"_id": commit.id, "owner": commit.owner, "commit": commit.previous}, update, upsert=True)


def _fresh(now: datetime, partition: int) -> dict[str, Any]:
    return {"created_at": now, "deleted": now, "updated_at": now, "version": 0, "partition": partition}


def _outcomes(commits: Sequence[Commit], details: dict[str, Any]) -> list[Outcome]:
    assumed = Outcome.UNKNOWN if details.get("writeConcernErrors") else Outcome.APPLIED
    outcomes = [assumed] * len(commits)
    for error in details.get("writeErrors", ()):
        index, code = error["index"], error["code"]
        if code == VALIDATION_FAILED:
            outcomes[index] = Outcome.FENCED
        elif code == DUPLICATE_KEY and commits[index].founding is not None:
            outcomes[index] = Outcome.EXISTS
        else:
            outcomes[index] = Outcome.UNKNOWN
    return outcomes


def _document(found: dict[str, Any]) -> Document:
    return Document(id=found["_id"], **{name: found[name] for name in FIELDS if name in found})
