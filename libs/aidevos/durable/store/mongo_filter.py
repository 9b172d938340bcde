"""Conditions as MongoDB's filters.

Nothing of a caller's becomes an operator, a path or a pattern: a value stands behind `$eq` and its
like, text is escaped before it is a pattern, and a name that MongoDB would read as more than a name
is refused. MongoDB looks into lists wherever it meets one; here each condition says that there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import singledispatch
from typing import Any, TypeAlias

from aidevos.durable.store.conditions import (
    And,
    Compare,
    Condition,
    Contains,
    Exists,
    Includes,
    Not,
    OneOf,
    Or,
    Path,
    StartsWith,
    Text,
    conjuncts,
)

Filter: TypeAlias = dict[str, Any]
NEVER: Filter = {"_id": {"$in": []}}
NO_LIST: Filter = {"$not": {"$type": "array"}}


def compile_condition(condition: Condition) -> Filter:
    """The filter that holds for a document exactly where the condition is true of its `state`.

    Raises `ValueError` for a name that is empty, or has a dot, a dollar or NUL in it.
    """
    return _compile(condition)


def field(path: Path) -> str:
    """The path of a document's field; raises `ValueError`."""
    for name in path:
        if not name or set(name) & set(".$\0"):
            raise ValueError(f"{name!r} can't be a name in a path of MongoDB")
    return ".".join(("state", *path))


def _here(path: Path, test: Filter) -> Filter:
    """The test holds for what stands at a path that leads through maps; for a list it does not."""
    return all_of([{field(path): test | NO_LIST}, *_through_maps(path)])


def all_of(filters: Iterable[Filter]) -> Filter:
    """The filter that holds where all of these do. What they say of one field stands together, as far as no
    operator is in it twice: MongoDB plans and tests that faster."""
    together: Filter = {}
    apart: list[Filter] = []
    for clause in _flat(filters):
        ((name, test),) = clause.items()
        known = together.get(name, {})
        if name.startswith("$") or any(known.get(operator, test[operator]) is not test[operator] for operator in test):
            apart.append(clause)
        else:
            together[name] = known | test
    return together | ({"$and": apart} if apart else {})


def _flat(filters: Iterable[Filter]) -> Iterator[Filter]:
    """The same filters, each of one field or operator, and none of them an `$and`."""
    for each in filters:
        for name, test in each.items():
            if name == "$and":
                yield from _flat(test)
            else:
                yield {name: test}


def _through_maps(path: Path) -> list[Filter]:
    return [{field(path[:length]): NO_LIST} for length in range(1, len(path))]


def _equal(value: Any) -> Filter:
    return {"$type": "null"} if value is None else {"$eq": value}


def _pattern(text: str) -> str:
    return re.escape(text).replace("\0", r"\x00")


@singledispatch
def _compile(condition: Condition) -> Filter:
    raise TypeError(f"{condition!r} is no condition")


@_compile.register
def _(condition: Compare) -> Filter:
    if condition.operator == "eq":
        return _here(condition.path, _equal(condition.value))
    return _here(condition.path, {f"${condition.operator}": condition.value})


@_compile.register
def _(condition: OneOf) -> Filter:
    some = {"$in": [value for value in condition.values if value is not None]}
    if None not in condition.values:
        return _here(condition.path, some)
    return {"$or": [_here(condition.path, some), _here(condition.path, _equal(None))]}


@_compile.register
def _(condition: Exists) -> Filter:
    return all_of([{field(condition.path): {"$exists": True}}, *_through_maps(condition.path)])


@_compile.register
def _(condition: Contains) -> Filter:
    path, value = condition.path, condition.value
    inside = _compile(Includes(path, value))
    if not isinstance(value, str):
        return inside
    return {"$or": [inside, _here(path, {"$regex": _pattern(value)})]}


@_compile.register
def _(condition: Includes) -> Filter:
    path = condition.path
    return all_of([{field(path): {"$elemMatch": _equal(condition.value)}}, *_through_maps(path)])


@_compile.register
def _(condition: StartsWith) -> Filter:
    return _here(condition.path, {"$regex": "^" + _pattern(condition.prefix)})


@_compile.register
def _(condition: Text) -> Filter:
    pattern = {"$regex": _pattern(condition.text), "$options": "i"}
    return {"$or": [_here(path, pattern) for path in condition.paths]} if condition.paths else NEVER


@_compile.register
def _(condition: And) -> Filter:
    return all_of(_compile(inner) for inner in conjuncts(condition))


@_compile.register
def _(condition: Or) -> Filter:
    return {"$or": [_compile(inner) for inner in condition.any]} if condition.any else NEVER


@_compile.register
def _(condition: Not) -> Filter:
    return {"$nor": [_compile(condition.inner)]}
