"""The shapes of the documents of a copy. They come from outside, and nothing but these shapes gets into a fleet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from aidevos.backup.errors import BackupError
from aidevos.contracts import subjects
from aidevos.durable.store import codec

# The fields of an object's document. Those of a newer version may be more.
FIELDS: dict[str, type | tuple[type, ...]] = {
    "_id": str,
    "owner": str,
    "by": str,
    "epoch": int,
    "turn": int,
    "expected": int,
    "commit": str,
    "version": int,
    "partition": int,
    "schema": int,
    "state": Mapping,
    "replies": Mapping,
    "archived": bool,
    "history": Mapping,
    "outbox": Mapping,
    "outbox_last": int,
    "relay": bool,
    "alarms": Mapping,
    "alarm_at": (int, float),
    "deleted": datetime,
    "created_at": datetime,
    "made_at": datetime,
    "updated_at": datetime,
    "project": str,
}
COUNTERS = ("epoch", "turn", "version", "outbox_last")
# Counters stay far from what MongoDB can hold.
MAX_COUNT = 2**62
_is_name = re.compile(r"[a-z_]{1,64}").fullmatch


def decode(document: RawBSONDocument) -> dict[str, Any]:
    """Return a document as dicts, lists and scalars. Raises `BackupError` for one that is no object's."""
    check_object(document)
    try:
        return codec.decode(bytes(document.raw))
    except (BSONError, ValueError, RecursionError) as error:
        raise BackupError(f"the copy has an object {document['_id']} that can't be decoded: {error}") from None


def check_object(document: RawBSONDocument) -> None:
    """Raise `BackupError` for a document that is no object's."""
    id = document.get("_id")
    if not isinstance(id, str) or not subjects.is_id(id):
        raise BackupError("the copy has an object whose ID no object has")
    for name, value in document.items():
        expected = FIELDS.get(name)
        if not _is_name(name) or (expected and value is not None and not isinstance(value, expected)):
            raise BackupError(f"the copy has an object {id} whose field {name[:64]!r} has another shape")
    for name in COUNTERS:
        if not 0 <= (document.get(name) or 0) < MAX_COUNT:
            raise BackupError(f"the copy has an object {id} whose {name} is out of bounds")


def check_record(document: RawBSONDocument) -> None:
    """Raise `BackupError` for a document that belongs to no object: an archived outcome, or an old version."""
    id: Any = document.get("_id")
    if not isinstance(id, Mapping) or not subjects.is_id(str(id.get("o"))):
        raise BackupError("the copy has a record that belongs to no object")
