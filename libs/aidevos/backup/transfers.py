"""Objects as lines of JSON (NDJSON), out of a fleet and into one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from aidevos.backup.errors import BackupError
from aidevos.backup.fleet_data import FleetData, open_database
from aidevos.backup.manifest import OBJECTS
from aidevos.backup.shapes import decode
from aidevos.backup.stored_objects import BATCH, StoredObject
from aidevos.durable.store.conditions import COMPARISONS, And, Compare, Condition, Operator
from aidevos.durable.store.mongo_filter import compile_condition

STANDARD = "-"
# A line has a state and alarms, which have bounds of their own, in JSON.
LONGEST_LINE = 32 * 1024 * 1024
LIVE: dict[str, Any] = {"deleted": None}
_line = msgspec.json.Decoder(StoredObject)


def parse_where(text: str) -> Condition:
    """Return the condition in JSON such as `{"value": {"gte": 5}, "owner.name": "ada"}`. Raises `BackupError`."""
    try:
        wanted = msgspec.json.decode(text, type=dict[str, Any])
        conditions: list[Condition] = []
        for path, tests in wanted.items():
            for operator, value in (tests if isinstance(tests, dict) else {"eq": tests}).items():
                if operator not in COMPARISONS:
                    raise ValueError(f"{operator!r} is none of {', '.join(COMPARISONS)}")
                conditions.append(Compare(tuple(path.split(".")), cast(Operator, operator), value))
        compile_condition(And(tuple(conditions)))
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise BackupError(f'--where must be like {{"value": {{"gte": 5}}}}: {error}') from None
    return And(tuple(conditions))


def export_objects(
    fleet: FleetData,
    type: str,
    target: BinaryIO,
    *,
    project: str | None = None,
    where: Condition | None = None,
    on_total: Callable[[int], None] = lambda total: None,
    on_done: Callable[[int], None] = lambda count: None,
) -> int:
    """Write the objects of a type as they are at one moment, and return their number. Raises `BackupError`."""
    wanted = LIVE | ({} if project is None else {"project": project})
    if where is not None:
        wanted = {"$and": [wanted, compile_condition(where)]}
    written = 0
    with open_database(fleet) as database:
        documents = database[f"{OBJECTS}_{type}"]
        on_total(documents.count_documents(wanted))
        with database.client.start_session(snapshot=True) as session:
            for document in documents.find(wanted, session=session):
                each = StoredObject.of(type, decode(document))
                if each is not None:
                    target.write(msgspec.json.encode(each) + b"\n")
                    written += 1
                    on_done(1)
    return written


def read_lines(file: BinaryIO) -> Iterator[list[tuple[str, StoredObject | str]]]:
    """Yield batches of the objects in lines of JSON; a line that is none has the reason instead."""
    batch: list[tuple[str, StoredObject | str]] = []
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if line.strip():
            batch.append(_read(number, line))
        if len(batch) >= BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(number: int, line: bytes) -> tuple[str, StoredObject | str]:
    try:
        return f"line {number}: ", _line.decode(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        return f"line {number}", f"this is no object: {error}"


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Open a file to read, or standard input for `-`. Raises `BackupError`."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        with Path(path).expanduser().open("rb") as file:
            yield file
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None


@contextmanager
def written(path: str) -> Iterator[BinaryIO]:
    """Open a new file that only its owner can read, or standard output for `-`. It appears at the end of the block.

    Raises `BackupError`.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        return
    final = Path(path).expanduser()
    partial = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
        partial.replace(final)
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
