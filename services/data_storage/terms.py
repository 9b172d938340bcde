"""The terms of a collection: the part of its configuration that every turn of its items needs.

Promise: a turn uses terms that were in force less than `queries.LOOKUP_LIFE` seconds before it requested
them. A changed configuration is therefore in force everywhere that long after its commit, and the
change itself can wait that long before it checks the existing items.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from aidevos.contracts.data import Rules
from aidevos.queries import Lookups

from .schemas import Validator

# Seconds after which every turn under older terms of a collection has been committed or has failed.
SETTLED = 20.0
TERMS = "terms"


class Index(msgspec.Struct, frozen=True):
    """One declared index: its paths, with a minus for descending ones.

    Queries use the index once it is `complete`. Before that it is only written.
    """

    paths: tuple[str, ...]
    complete: bool = False


class Terms(msgspec.Struct, kw_only=True):
    """The terms of one collection.

    `incarnation` distinguishes the collection from earlier ones of the same name. `schemas` are JSON
    texts; while a schema change is proposed there are two. `indexes` are by slot. Without `expiring`, no item
    has a time of expiry.
    """

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
    expiring: bool = True
    require_if_match: bool = False

    def check_data(self, data: Any, field: str) -> None:
        """Raise `invalid`, with the path below `field`, if the data breaks a schema."""
        for schema in self.schemas:
            compile_schema(schema).check(data, field)


@lru_cache(maxsize=1000)
def compile_schema(schema: str) -> Validator:
    """Return the validator for a schema in JSON text."""
    return Validator(msgspec.json.decode(schema))


TermsCache = Lookups[Terms]
