"""Queries by which stored objects are copied and migrated: `query.<type>._export` and `query.<type>._older`.

Promise: all pages of an export show one moment, and only committed states. An export shows what a list shows to its
caller, but with states and alarms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec

from aidevos.contracts import projects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT, OlderPage, StoredObject
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.store.codec import STATE_DEPTH
from aidevos.durable.store.conditions import COMPARISONS, And, Compare, Condition, Operator
from aidevos.durable.store.mongo_filter import compile_condition
from aidevos.durable.store.port import Document


class ExportArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `_export`.

    `after` is the ID of the last object of the previous page, and `moment` that of the first page. `where` has tests of
    values at paths in the state.
    """

    limit: int = LIST_LIMIT
    after: str = ""
    moment: str | None = None
    project: projects.Id | None = None
    where: dict[str, Any] = {}


class OlderArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `_older`: look at `limit` objects for states of schemas before `schema`."""

    schema: int
    limit: int = LIST_LIMIT
    cursor: str | None = None


def parse_where(wanted: dict[str, Any]) -> Condition:
    """Return the condition of tests such as `{"value": {"gte": 5}, "owner.name": "ada"}`. Raises `invalid`."""
    try:
        condition = And(tuple(_tests(wanted)))
        compile_condition(condition)
    except ValueError as error:
        detail = f'this must be like {{"value": {{"gte": 5}}}}: {error}'
        raise Failure("invalid", detail, field="args.where") from None
    return condition


def _tests(wanted: dict[str, Any]) -> Iterator[Condition]:
    for path, tests in wanted.items():
        if path.count(".") >= STATE_DEPTH:
            raise ValueError("a path is longer than any in a state")
        for operator, value in (tests if isinstance(tests, dict) else {"eq": tests}).items():
            if operator not in COMPARISONS:
                raise ValueError(f"{operator!r} is none of {', '.join(COMPARISONS)}")
            if isinstance(value, list | dict):
                raise ValueError(f"the value at {path!r} is no text, number, boolean or null")
            yield Compare(tuple(path.split(".")), cast(Operator, operator), value)


def show(type: ObjectType, document: Document) -> StoredObject:
    """Return an object as an export has it."""
    return StoredObject(
        type=type.name,
        id=document.id,
        state=document.state or {},
        schema=document.schema,
        version=document.version,
        project=document.project,
        created_at=document.made_at,
        updated_at=document.updated_at,
        alarms=document.alarms or None,
    )


def find_older(documents: list[Document], args: OlderArgs) -> OlderPage:
    """Return the page of the older ones of these documents, of which more may follow if there are `limit`."""
    ids = [document.id for document in documents if document.schema < args.schema]
    more = len(documents) == args.limit
    return OlderPage(ids=ids, examined=len(documents), next_cursor=documents[-1].id if more else None)
