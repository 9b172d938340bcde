"""Objects as lines of JSON (NDJSON), out of a fleet and into one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import msgspec

from aidevos.backup.errors import BackupError
from aidevos.backup.fleet_data import FleetData, open_database
from aidevos.backup.manifest import OBJECTS
from aidevos.backup.shapes import decode
from aidevos.backup.stored_objects import BATCH, StoredObject
from aidevos.durable.store.conditions import COMPARISONS, And, Compare, Condition, Operator
from aidevos.durable.store.mongo_filter import compile_condition

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
