"""The format of a copy.

    identity.age    the copy's identity, encrypted for its owner
    00001.part, …   documents of one collection each: a header and BSON documents, compressed (zstd) and encrypted
    manifest.age    what the copy contains, with the hash of each part; written last

Promise: a copy without a manifest is not a copy. The manifest names every part by its number, and each part says in its
header which copy, number and collection it belongs to. So parts can't be exchanged, dropped or taken from elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any

import msgspec

from aidevos.backup.encryption import IDENTITY_LIMIT, CopyKey
from aidevos.backup.errors import BackupError
from aidevos.backup.storage import Storage
from aidevos.contracts import subjects

FORMAT = 1
IDENTITY = "identity.age"
MANIFEST = "manifest.age"
MANIFEST_LIMIT = 64 * 1024 * 1024
_is_part = re.compile(r"[0-9]{5}\.part").fullmatch
# The families of collections: each type has one collection in each, `obj_<type>` and so on.
OBJECTS, FAMILIES = "obj", ("obj", "replies", "history")
_collection = re.compile(rf"({'|'.join(FAMILIES)})_({subjects.TYPE_PATTERN})").fullmatch


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some documents of one collection. `bytes` counts the documents, and `size` the encrypted file."""

    collection: str
    documents: int
    bytes: int
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a copy.

    It shows the fleet as it was at one moment, not before `at`. `keys` has the files of keys by name. The administrator
    is the first one of the fleet.
    """

    format: int = FORMAT
    id: str
    version: str
    at: str
    admin_username: str
    admin_password: str
    keys: dict[str, bytes]
    parts: list[Part]


class _Format(msgspec.Struct):
    format: int


def part_name(index: int) -> str:
    return f"{index + 1:05}.part"


def split_collection(name: str) -> tuple[str, str] | None:
    """Return the family and the type of a collection, or None if the name is neither."""
    match = _collection(name)
    return (match[1], match[2]) if match else None


def clear_unfinished(storage: Storage) -> None:
    """Make the place ready for a copy, and remove what an interrupted backup has left.

    Raises `BackupError` for a place with anything else.
    """
    if storage.has(MANIFEST):
        raise BackupError(f"{storage.place} has a copy already: give each copy a place of its own")
    left = []
    for name in storage.names():
        if name != IDENTITY and not _is_part(name):
            raise BackupError(f"{storage.place} has other files, such as {name}: give the copy a place of its own")
        left.append(name)
    storage.close_to_others()
    for name in left:
        storage.delete(name)


def write_manifest(storage: Storage, key: CopyKey, manifest: Manifest) -> str:
    """Write the manifest, which completes the copy. Return the hash that identifies the copy."""
    content = io.BytesIO()
    key.encrypt(io.BytesIO(key.sign(msgspec.json.encode(manifest))), content)
    storage.write(MANIFEST, content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def open_copy(storage: Storage, unlock: Any, fingerprint: str = "") -> tuple[CopyKey, Manifest]:
    """Return the key and the manifest of a copy. `unlock` makes the key of the encrypted identity.

    With a `fingerprint`, only the copy that had it when it was made is accepted. Raises `BackupError`.
    """
    if not storage.has(MANIFEST):
        raise BackupError(f"{storage.place} has no complete copy: {MANIFEST} is missing")
    locked, encrypted = storage.read(IDENTITY, IDENTITY_LIMIT), storage.read(MANIFEST, MANIFEST_LIMIT)
    if fingerprint and hashlib.sha256(encrypted).hexdigest() != fingerprint.lower():
        raise BackupError(f"{storage.place} has another copy than the one with this fingerprint")
    key: CopyKey = unlock(locked)
    signed = io.BytesIO()
    key.decrypt(io.BytesIO(encrypted), signed)
    return key, _decode(key.verify(signed.getvalue()))


def _decode(content: bytes) -> Manifest:
    try:
        found = msgspec.json.decode(content, type=_Format).format
        if found != FORMAT:
            raise BackupError(f"the copy has format {found}, and this version of the product reads {FORMAT}: update it")
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupError(f"the manifest of the copy can't be read: {error}") from None
    for part in manifest.parts:
        if split_collection(part.collection) is None:
            raise BackupError(f"the copy names a collection {part.collection[:80]!r}, which no fleet has")
    return manifest
