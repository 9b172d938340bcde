"""The restore of a whole fleet: afterwards it has the documents and keys of the copy, and nothing else.

Promise: no process that owned a document before can write it afterwards. Each restored document has an owner that no
process is, and more turns and epochs than both the document in the copy and the one that it replaces. So the fence of
its collection refuses every late commit, as after a claim. The fence is set before, and proven before and afterwards.

The services must be down, because an object that is back would act on others that are not yet. Placement isn't
restored: partitions are computed anew, and hosts claim them as ever. Nothing in the copy is trusted with more than its
place: names and fields of documents must be known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import BulkWriteError

from aidevos.backup.encryption import CopyKey, HashedReader
from aidevos.backup.errors import BackupError
from aidevos.backup.fleet_data import (
    Documents,
    FleetData,
    collections,
    open_database,
    open_types,
    read_partition_count,
)
from aidevos.backup.frames import DocumentSink, Header
from aidevos.backup.manifest import OBJECTS, Manifest, Part, part_name, split_collection
from aidevos.backup.shapes import check_object, check_record
from aidevos.backup.storage import Storage
from aidevos.contracts import subjects
from aidevos.durable.store.mongo_fence import DUPLICATE_KEY

# Bounds of one bulk write.
BATCH_COUNT = 500
BATCH_BYTES = 8 * 1024 * 1024
CHUNK = 1024 * 1024
COUNTERS = ("epoch", "turn")
# What a restored document doesn't keep: its owner, its place, and how far its counters had come.
RENEWED = ("owner", "by", "expected", "epoch", "turn", "partition", "created_at")
OnRestored = Callable[[int, int], None]


def check_parts(storage: Storage, parts: Mapping[int, Part]) -> None:
    """Read these parts by index, and raise `BackupError` unless each is as it was written."""
    for index, part in parts.items():
        with storage.reader(part_name(index)) as file:
            reader = HashedReader(file)
            while reader.read(CHUNK):
                if reader.size > part.size:
                    break
        if (reader.size, reader.sha256) != (part.size, part.sha256):
            raise BackupError(f"{storage.place}: {part_name(index)} was changed since the backup")


def read_part(
    storage: Storage, key: CopyKey, manifest: Manifest, index: int, take: Callable[[RawBSONDocument], None]
) -> None:
    """Pass each document of a part on. Raises `BackupError`."""
    part = manifest.parts[index]
    sink = DocumentSink(Header(manifest.id, index, part.collection), take)
    with storage.reader(part_name(index)) as file:
        reader = HashedReader(file)
        key.decrypt(reader, sink)
    sink.finish()
    if (sink.documents, reader.sha256) != (part.documents, part.sha256):
        raise BackupError(f"{storage.place}: {part_name(index)} was changed while it was read")


def restore_documents(
    fleet: FleetData,
    storage: Storage,
    key: CopyKey,
    manifest: Manifest,
    on_restored: OnRestored = lambda documents, size: None,
) -> None:
    """Make the documents of the fleet those of the copy. The services must be down. Raises `BackupError`."""
    partitions, renewal = read_partition_count(fleet), Renewal()
    types = sorted({split_collection(part.collection)[1] for part in manifest.parts})  # type: ignore[index]
    open_types(fleet, types)
    with open_database(fleet) as database:
        for name in _unversioned(collections(database)):
            database[name].delete_many({})
        for index, part in enumerate(manifest.parts):
            family, type = split_collection(part.collection) or ("", "")
            batch = _Batch(database[part.collection], on_restored)
            write = _object_writer(batch, renewal, type, partitions) if family == OBJECTS else _record_writer(batch)
            read_part(storage, key, manifest, index, write)
            batch.flush()
        _remove_others(database, renewal)
    open_types(fleet, types)


class Renewal:
    """The new owner of all documents of one restore, and the time at which it makes them."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        # MongoDB keeps milliseconds.
        self.at = now.replace(microsecond=now.microsecond // 1000 * 1000)
        self.owner = f"restore-{uuid4().hex}"

    def renew(self, type: str, document: RawBSONDocument, partitions: int) -> dict[str, Any]:
        """Return the document as it is restored. Raises `BackupError` for one that is no object's."""
        check_object(document)
        id = document["_id"]
        owner = f"{self.owner}.{id}"
        kept = {name: value for name, value in document.items() if name not in RENEWED}
        return kept | {
            "owner": owner,
            "by": owner,
            "partition": subjects.partition(type, id, partitions),
            "created_at": self.at,
            **{name: (document.get(name) or 0) + 1 for name in COUNTERS},
        }


def replace(renewed: dict[str, Any]) -> UpdateOne:
    """Return the update that puts a document in the place of another one, with counters above both."""
    counters = {name: {"$max": [{"$add": [f"${name}", 1]}, renewed[name]]} for name in COUNTERS}
    # The whole document is a literal: nothing in it is taken for an operator or a path.
    merged = {"$mergeObjects": [{"$literal": renewed}, counters]}
    return UpdateOne({"_id": renewed["_id"]}, [{"$replaceWith": merged}], upsert=True)


class _Batch:
    """Documents of one collection, which are written together. Most are new, so they are inserted first."""

    def __init__(self, collection: MongoCollection[Any], on_restored: OnRestored) -> None:
        self._collection = collection
        self._on_restored = on_restored
        self._documents: list[Any] = []
        self._bytes = 0

    def add(self, document: Any, size: int) -> None:
        self._documents.append(document)
        self._bytes += size
        if len(self._documents) >= BATCH_COUNT or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._documents:
            self._write(self._documents)
            self._on_restored(len(self._documents), self._bytes)
        self._documents, self._bytes = [], 0

    def _write(self, documents: list[Any]) -> None:
        try:
            self._collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            errors = error.details["writeErrors"]
            existing = [documents[each["index"]] for each in errors if each["code"] == DUPLICATE_KEY]
            if len(existing) < len(errors) or error.details["writeConcernErrors"]:
                raise
            self._collection.bulk_write([replace(each) for each in existing], ordered=False)


def _object_writer(batch: _Batch, renewal: Renewal, type: str, partitions: int) -> Callable[[RawBSONDocument], None]:
    return lambda document: batch.add(renewal.renew(type, document, partitions), len(document.raw))


def _record_writer(batch: _Batch) -> Callable[[RawBSONDocument], None]:
    def write(document: RawBSONDocument) -> None:
        check_record(document)
        batch.add(document, len(document.raw))

    return write


def _unversioned(names: Collection[str]) -> list[str]:
    """Return the collections of everything but objects."""
    return [name for name in names if not name.startswith(f"{OBJECTS}_")]


def _remove_others(database: Documents, renewal: Renewal) -> None:
    """Remove the objects that the copy doesn't have. Neither a claim nor a commit changes when a document was made."""
    for name in collections(database):
        if name.startswith(f"{OBJECTS}_"):
            database[name].delete_many({"created_at": {"$ne": renewal.at}})
