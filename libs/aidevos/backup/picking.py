"""Some objects of a copy: those of types, of projects, or single ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec
from bson.raw_bson import RawBSONDocument

from aidevos.backup.encryption import CopyKey
from aidevos.backup.errors import BackupError
from aidevos.backup.manifest import OBJECTS, Manifest, Part, split_collection
from aidevos.backup.restoring import read_part
from aidevos.backup.shapes import decode
from aidevos.backup.storage import Storage
from aidevos.backup.stored_objects import BATCH, read_stored
from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import StoredObject

PROJECT_TYPE, COLLECTION_TYPE = "project", "collection"
# Batches that wait to be loaded.
AHEAD = 4
Batch = list[StoredObject]


class Picked(msgspec.Struct):
    """The objects that a restore brings back. An object is picked if anything here names it."""

    types: Collection[str] = ()
    projects: Collection[str] = ()
    objects: Collection[str] = ()

    def __post_init__(self) -> None:
        for type in self.types:
            if not subjects.is_type(type):
                raise BackupError(f"--type {type} is not the name of a type")
        for object_id in self.objects:
            try:
                subjects.split_object_id(object_id)
            except Failure as failure:
                raise BackupError(f"--object {object_id}: {failure.detail}") from None

    @property
    def all(self) -> bool:
        """True if nothing is named, so the whole fleet is meant."""
        return not (self.types or self.projects or self.objects)

    def parts(self, manifest: Manifest) -> dict[int, Part]:
        """Return the parts that may have such objects, by index. Collections come before their items."""
        wanted = {*self.types, *(each.partition(":")[0] for each in self.objects)}
        found = {}
        for index, part in enumerate(manifest.parts):
            family, type = split_collection(part.collection) or ("", "")
            if family == OBJECTS and (self.projects or type in wanted):
                found[index] = part
        return found


def read_picked(storage: Storage, key: CopyKey, manifest: Manifest, picked: Picked) -> Iterator[Batch]:
    """Yield batches of the picked objects, while another thread reads ahead. Raises `BackupError`."""
    found: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
    ended = threading.Event()
    reader = threading.Thread(target=_read, args=(storage, key, manifest, picked, found, ended), daemon=True)
    reader.start()
    try:
        while (batch := found.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        ended.set()


def _read(
    storage: Storage,
    key: CopyKey,
    manifest: Manifest,
    picked: Picked,
    found: queue.Queue[Batch | BaseException | None],
    ended: threading.Event,
) -> None:
    def put(batch: Batch | BaseException | None) -> None:
        while not ended.is_set():
            try:
                found.put(batch, timeout=0.2)
            except queue.Full:
                continue
            return

    picker = _Picker(picked, put)
    try:
        for index, part in picked.parts(manifest).items():
            _, type = split_collection(part.collection) or ("", "")
            read_part(storage, key, manifest, index, picker.of_type(type))
        picker.flush()
        put(None)
    except BaseException as error:  # for the thread that waits for batches
        put(error)


class _Picker:
    """Gathers the picked ones of all objects into batches."""

    def __init__(self, picked: Picked, put: Callable[[Batch], None]) -> None:
        self._picked = picked
        self._put = put
        self._batch: Batch = []
        # The collections of the picked projects, which their items name.
        self._collections: set[str] = set()

    def of_type(self, type: str) -> Callable[[RawBSONDocument], None]:
        def take(document: RawBSONDocument) -> None:
            found = decode(document)
            if not self._is_picked(type, found):
                return
            each = read_stored(type, found)
            if each is not None:
                self._batch.append(each)
            if len(self._batch) >= BATCH:
                self.flush()

        return take

    def flush(self) -> None:
        if self._batch:
            self._put(self._batch)
        self._batch = []

    def _is_picked(self, type: str, document: Mapping[str, Any]) -> bool:
        picked = self._picked
        if type in picked.types or f"{type}:{document['_id']}" in picked.objects:
            return True
        if not picked.projects:
            return False
        if _project_of(type, document) in picked.projects:
            if type == COLLECTION_TYPE:
                self._collections.add(document["_id"])
            return True
        collection = (document.get("state") or {}).get(COLLECTION_TYPE)
        return isinstance(collection, str) and collection in self._collections


def _project_of(type: str, document: Mapping[str, Any]) -> str | None:
    """Return the project that an object belongs to. A project belongs to itself; collections name theirs deeper."""
    if type == PROJECT_TYPE:
        return str(document["_id"])
    state = document.get("state") or {}
    for place in (document, state, state.get("config")):
        if isinstance(place, Mapping) and isinstance(project := place.get("project"), str):
            return project
    return None
