"""A backup: all documents of a running fleet as they were at one moment, and its keys.

Promise: the copy shows one moment. Every document is read in one snapshot session, so at one cluster time, which a
majority has committed. A message leaves an object only after a majority has its commit. So where the copy has the
effect of a message, it also has its cause, and where it has not, the outbox has the message.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from typing import Any
from uuid import uuid4

import msgspec

from aidevos.backup.encryption import CopyKey, HashedWriter
from aidevos.backup.fleet_data import Documents, FleetData, collections, open_database
from aidevos.backup.frames import CompressedDocuments, Header
from aidevos.backup.home_keys import read_keys
from aidevos.backup.manifest import (
    IDENTITY,
    OBJECTS,
    Manifest,
    Part,
    clear_unfinished,
    part_name,
    split_collection,
    write_manifest,
)
from aidevos.backup.storage import Storage

# Documents that the server sends at once; it sends at most 16 MB.
BATCH = 2000
# Documents of one part, in bytes. Object storage limits the parts of an upload, and so the size of a file.
PART_BYTES = 8 * 1024**3
# Called with the total number of documents, and then with documents and bytes that were copied.
OnTotal = Callable[[int], None]
OnCopied = Callable[[int, int], None]


class Summary(msgspec.Struct, kw_only=True):
    """The outcome of a backup. `bytes` counts documents before, and `size` after compression and encryption."""

    place: str
    fingerprint: str
    at: str
    objects: int
    documents: int
    bytes: int
    size: int
    seconds: float
    types: dict[str, int]


def back_up(
    fleet: FleetData,
    storage: Storage,
    passphrase: str,
    recipients: Sequence[str],
    *,
    on_total: OnTotal = lambda total: None,
    on_copied: OnCopied = lambda documents, size: None,
) -> Summary:
    """Write a copy of the fleet. Raises `BackupError`."""
    began, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    key = CopyKey.generate()
    locked = key.lock(passphrase, recipients)
    clear_unfinished(storage)
    with open_database(fleet) as database:
        names = collections(database)
        on_total(sum(database[name].estimated_document_count() for name in names))
        storage.write(IDENTITY, locked)
        writer = _PartWriter(storage, key, on_copied)
        with database.client.start_session(snapshot=True) as session:
            for name in names:
                writer.copy(name, _read_batches(database, name, session))
    manifest = Manifest(
        id=writer.id,
        version=version("aidevos"),
        at=at,
        admin_username=fleet.admin_username,
        admin_password=fleet.admin_password,
        keys=read_keys(fleet.home),
        parts=writer.parts,
    )
    fingerprint = write_manifest(storage, key, manifest)
    return _summarize(manifest, storage.place, fingerprint, time.monotonic() - began)


class _PartWriter:
    """Writes the parts of one copy."""

    def __init__(self, storage: Storage, key: CopyKey, on_copied: OnCopied) -> None:
        self.id = uuid4().hex
        self.parts: list[Part] = []
        self._storage = storage
        self._key = key
        self._on_copied = on_copied

    def copy(self, collection: str, batches: Iterator[bytes]) -> None:
        """Write all documents of a collection, into one part unless they are very many."""
        while (first := next(batches, None)) is not None:
            self._write(collection, chain([first], _take(batches, PART_BYTES - len(first))))

    def _write(self, collection: str, batches: Iterator[bytes]) -> None:
        index = len(self.parts)
        source = CompressedDocuments(Header(self.id, index, collection), batches, self._on_copied)
        with self._storage.writer(part_name(index)) as file:
            target = HashedWriter(file.write)
            self._key.encrypt(source, target)
        part = Part(
            collection=collection,
            documents=source.documents,
            bytes=source.bytes,
            size=target.size,
            sha256=target.sha256,
        )
        self.parts.append(part)


def _read_batches(database: Documents, name: str, session: Any) -> Iterator[bytes]:
    return iter(database[name].find_raw_batches({}, batch_size=BATCH, session=session))


def _take(batches: Iterator[bytes], limit: int) -> Iterator[bytes]:
    while limit > 0 and (batch := next(batches, None)) is not None:
        yield batch
        limit -= len(batch)


def _summarize(manifest: Manifest, place: str, fingerprint: str, seconds: float) -> Summary:
    types: Counter[str] = Counter()
    for part in manifest.parts:
        family, type = split_collection(part.collection) or ("", "")
        if family == OBJECTS:
            types[type] += part.documents
    return Summary(
        place=place,
        fingerprint=fingerprint,
        at=manifest.at,
        objects=types.total(),
        documents=sum(part.documents for part in manifest.parts),
        bytes=sum(part.bytes for part in manifest.parts),
        size=sum(part.size for part in manifest.parts),
        seconds=round(seconds, 3),
        types=dict(sorted(types.items())),
    )
