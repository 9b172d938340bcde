"""Conditions compiled to MongoDB filters.

Promise: no input of a caller becomes an operator, a path or a pattern. Values stand only as operands of `$eq` and the
like, text is escaped before it becomes a pattern, and names that MongoDB would interpret are refused. MongoDB searches
lists implicitly; each compiled condition therefore excludes lists on its path, unless there can be none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache, singledispatch
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
    """Return the filter that matches exactly the documents of whose `state` the condition is true.

    Raises `ValueError` for a name in a path that is empty or contains a dot, a dollar sign or NUL.
    """
    return _compile(condition)


@lru_cache(maxsize=10_000)
def field(path: Path) -> str:
    """Return the dotted field name of a path in the state. Raises `ValueError` like `compile_condition`."""
    for name in path:
        if not name or set(name) & set(".$\0"):
            raise ValueError(f"{name!r} can't be part of a MongoDB path")
    return ".".join(("state", *path))


def _test_value(path: Path, test: Filter) -> Filter:
    """Return the filter that applies a test to the value at a path, unless it is a list or behind one."""
    own = {field(path): test | NO_LIST}
    return own if len(path) == 1 else own | dict.fromkeys(_maps_above(path), NO_LIST)


def all_of(filters: Iterable[Filter]) -> Filter:
    """Return the conjunction of filters.

    Tests of the same field are merged unless they use the same operator twice. MongoDB plans and evaluates that faster.
    """
    merged: Filter = {}
    separate: list[Filter] = []
    _merge(filters, merged, separate)
    return merged | {"$and": separate} if separate else merged


def _merge(filters: Iterable[Filter], merged: Filter, separate: list[Filter]) -> None:
    """Add the clauses to `merged`, by field, or to `separate`, each with a single field or operator, without `$and`."""
    for each in filters:
        for name, test in each.items():
            if name == "$and":
                _merge(test, merged, separate)
            elif name.startswith("$"):
                separate.append({name: test})
            elif name not in merged:
                merged[name] = test
            elif any(merged[name].get(operator, test[operator]) is not test[operator] for operator in test):
                separate.append({name: test})
            else:
                merged[name] = merged[name] | test


def _maps_above(path: Path) -> list[str]:
    """Return the field names of the maps through which a path leads."""
    return [field(path[:length]) for length in range(1, len(path))]


def _equal(value: Any) -> Filter:
    return {"$type": "null"} if value is None else {"$eq": value}


def _pattern(text: str) -> str:
    return re.escape(text).replace("\0", r"\x00")


@singledispatch
def _compile(condition: Condition) -> Filter:
    raise TypeError(f"{condition!r} is not a condition")


@_compile.register
def _(condition: Compare) -> Filter:
    operator, value = condition.operator, condition.value
    test = _equal(value) if operator == "eq" else {f"${operator}": value}
    return {field(condition.path): test} if condition.scalar else _test_value(condition.path, test)


@_compile.register
def _(condition: OneOf) -> Filter:
    some = {"$in": [value for value in condition.values if value is not None]}
    if None not in condition.values:
        return _test_value(condition.path, some)
    return {"$or": [_test_value(condition.path, some), _test_value(condition.path, _equal(None))]}


@_compile.register
def _(condition: Exists) -> Filter:
    return {field(condition.path): {"$exists": True}} | dict.fromkeys(_maps_above(condition.path), NO_LIST)


@_compile.register
def _(condition: Contains) -> Filter:
    path, value = condition.path, condition.value
    inside = _compile(Includes(path, value))
    if not isinstance(value, str):
        return inside
    return {"$or": [inside, _test_value(path, {"$regex": _pattern(value)})]}


@_compile.register
def _(condition: Includes) -> Filter:
    path = condition.path
    return {field(path): {"$elemMatch": _equal(condition.value)}} | dict.fromkeys(_maps_above(path), NO_LIST)


@_compile.register
def _(condition: StartsWith) -> Filter:
    return _test_value(condition.path, {"$regex": "^" + _pattern(condition.prefix)})


@_compile.register
def _(condition: Text) -> Filter:
    pattern = {"$regex": _pattern(condition.text), "$options": "i"}
    return {"$or": [_test_value(path, pattern) for path in condition.paths]} if condition.paths else NEVER


@_compile.register
def _(condition: And) -> Filter:
    return all_of(_compile(inner) for inner in conjuncts(condition))


@_compile.register
def _(condition: Or) -> Filter:
    return {"$or": [_compile(inner) for inner in condition.any]} if condition.any else NEVER


@_compile.register
def _(condition: Not) -> Filter:
    return {"$nor": [_compile(condition.inner)]}
