"""The terms of a collection: what every turn of its items must know, kept in the process for a moment.

Promise: a turn works by terms that were in force less than `queries.LOOKUP_LIFE` seconds before it asked for them.
So a changed configuration is in force everywhere by then after its commit, and the change itself
can wait that long before it looks at what was written before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from aidevos.contracts.data import Rules
from aidevos.queries import Lookups

from .schemas import Validator

# Seconds after which whatever was begun by older terms of a collection is committed or has failed.
SETTLED = 20.0
TERMS = "terms"


class Index(msgspec.Struct, frozen=True):
    """One declared index: its paths, with a minus for descending ones. It serves queries once it is
    `complete`; before, it is only written."""

    paths: tuple[str, ...]
    complete: bool = False


class Terms(msgspec.Struct, kw_only=True):
    """`incarnation` tells a collection from another of the same name before it; `schemas` are texts, of
    which there are two while a change is under way; `indexes` go by their slot in the items."""

    name: str
    owner: str
    incarnation: str
    project: str | None = None
    rules: Rules
    schemas: list[str] = []
    unique: list[str] = []
    indexes: dict[str, Index] = {}
    history: bool = False
    expires_after: float | None = None
    require_if_match: bool = False

    def check_data(self, data: Any, field: str) -> None:
        """Raises `invalid` for data that a schema refuses, with the path."""
        for schema in self.schemas:
            validator(schema).check(data, field)


@lru_cache(maxsize=1000)
def validator(schema: str) -> Validator:
    return Validator(msgspec.json.decode(schema))


TermsCache = Lookups[Terms]
