"""Stored states against today's types: which of them can't be read, and which were written in an older schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.registry import NewerSchema, ObjectType
from aidevos.durable.store import codec

# Problems of one type that are described; all are counted.
PROBLEMS = 1000
_location = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$", re.DOTALL).match
# What is read of a document, and which documents exist as objects.
SHOWN = {"state": True, "schema": True}
LIVE: dict[str, Any] = {"deleted": None}


class Problem(msgspec.Struct):
    """A stored state that today's type can't read. `field` is the path in the state, if it is known."""

    type: str
    id: str
    schema: int
    field: str
    detail: str


class Findings(msgspec.Struct):
    """A report on the stored objects of one type. `schema` is the version of today's schema.

    `older` states are upcast when they are read, `newer` ones were written by newer code, and `failing` ones can't be
    read. `problems` describes the first of the newer and failing ones.
    """

    type: str
    schema: int
    objects: int = 0
    older: int = 0
    newer: int = 0
    failing: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list)


def examine(type: ObjectType, documents: Iterable[Mapping[str, Any]], on_tried: Callable[[int], None]) -> Findings:
    """Read each state as an activation would. `on_tried` is called with 1 after each one."""
    found = Findings(type.name, type.cls.schema_version)
    for document in documents:
        schema = int(document.get("schema") or 1)
        found.objects += 1
        found.older += schema < found.schema
        found.newer += schema > found.schema
        problem = _try(type, document, schema)
        if problem is not None:
            found.failing += schema <= found.schema
            if len(found.problems) < PROBLEMS:
                found.problems.append(problem)
        on_tried(1)
    return found


def older_ids(type: ObjectType, documents: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the IDs of the objects whose states are of an older schema."""
    return (document["_id"] for document in documents if int(document.get("schema") or 1) < type.cls.schema_version)


def _try(type: ObjectType, document: Mapping[str, Any], schema: int) -> Problem | None:
    try:
        state = type.load_state(plain_state(document.get("state")), schema)
        type.encode_state(state)
        type.check_state(state)
    except msgspec.ValidationError as error:
        place = _location(str(error))
        path, what = (place["path"].removeprefix("."), place["what"]) if place else ("", str(error))
        return Problem(type.name, document["_id"], schema, path, what)
    except NewerSchema as error:
        return Problem(type.name, document["_id"], schema, "", error.detail)
    except Defect as error:
        return Problem(type.name, document["_id"], schema, "", str(error))
    except Exception as error:  # whatever an author's upcast raises
        return Problem(type.name, document["_id"], schema, "", f"an upcast raised {error!r:.500}")
    return None


def plain_state(state: Any) -> dict[str, Any]:
    """Return a state as maps and lists, as an activation gets it."""
    return codec.decode(bytes(state.raw)) if state is not None else {}
