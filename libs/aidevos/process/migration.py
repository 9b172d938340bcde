"""Stored states against today's types: which of them can't be read, and which were written in an older schema."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from aidevos.durable.objects.defect import Defect
from aidevos.durable.objects.registry import NewerSchema, ObjectType

# Problems of one type that are described; all are counted.
PROBLEMS = 1000
_location = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$", re.DOTALL).match


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


def examine(found: Findings, type: ObjectType, id: str, state: Any, schema: int) -> None:
    """Read a state as an activation would, and count it."""
    found.objects += 1
    found.older += schema < found.schema
    found.newer += schema > found.schema
    problem = _try(type, id, state, schema)
    if problem is not None:
        found.failing += schema <= found.schema
        if len(found.problems) < PROBLEMS:
            found.problems.append(problem)


def _try(type: ObjectType, id: str, stored: Any, schema: int) -> Problem | None:
    try:
        state = type.load_state(stored, schema)
        type.encode_state(state)
        type.check_state(state)
    except msgspec.ValidationError as error:
        place = _location(str(error))
        path, what = (place["path"].removeprefix("."), place["what"]) if place else ("", str(error))
        return Problem(type.name, id, schema, path, what)
    except NewerSchema as error:
        return Problem(type.name, id, schema, "", error.detail)
    except Defect as error:
        return Problem(type.name, id, schema, "", str(error))
    except Exception as error:  # whatever an author's upcast raises
        return Problem(type.name, id, schema, "", f"an upcast raised {error!r:.500}")
    return None
