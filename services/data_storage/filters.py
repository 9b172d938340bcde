"""Filters, orders and projections as callers write them.

    {"price": {"gte": 10, "lt": 20}, "or": [{"name": {"starts_with": "a"}}, {"tags": {"contains": "new"}}]}

A filter is an object; what it says holds all together. A name in it is a path in `data`, as `paths`
tells, or one of `and`, `or` and `not`. `and` and `or` take lists of filters, `not` takes a filter.
Every path has an object of operators:

- `eq`, `ne`: a scalar. `in`, `nin`: a list of scalars. `exists`: true or false.
- `gt`, `gte`, `lt`, `lte`: a number or a text. `starts_with`: a text.
- `contains`: a scalar that is in a list, or a text that is a part of a text.

What each means of which values is in `aidevos.queries`; `ne` and `nin` are true
exactly where `eq` and `in` are not, so also where the value is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.queries import (
    And,
    Compare,
    Condition,
    Contains,
    Exists,
    Not,
    OneOf,
    Or,
    Path,
    StartsWith,
    Text,
    check_storable,
    class_of,
)

from . import values
from .keys import MAX_TEXT
from .paths import Field, parse_field, split, split_list

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_OPERANDS = 100
MAX_SORT = 4
MAX_FIELDS = 32
NAME = "filter"
GROUPS = {"and": And, "or": Or}


def parse_filter(filter: Any, field: str = NAME) -> Condition:
    """The condition on `data` that a filter is. Raises `invalid`, naming the path in the filter."""
    return _Reader().filter(filter, field, MAX_DEPTH)


def parse_sort(sort: str, field: str = "sort") -> list[Field]:
    """The order in `-price,name`, of which each path is there once. Raises `invalid`."""
    fields = [parse_field(part, field) for part in split_list(sort, field, MAX_SORT)]
    if len({found.path for found in fields}) < len(fields):
        raise Failure("invalid", "a path is there twice", field=field)
    return fields


def parse_fields(fields: str, field: str = "fields") -> list[Path]:
    """The paths in `name,address.city`. Raises `invalid`."""
    return [split(part, field) for part in split_list(fields, field, MAX_FIELDS)]


def project(data: Any, paths: list[Path]) -> Any:
    """What stands in a document at these paths, where it stood; of a document that is no map, itself."""
    if type(data) is not dict or () in paths:
        return data
    below: dict[str, list[Path]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    return {
        name: project(item, below[name])
        for name, item in data.items()
        if name in below and (() in below[name] or type(item) is dict)
    }


def in_store(condition: Condition, *before: str) -> Condition:
    """A condition on a document as one on the state in which it stands encoded, behind these names."""

    def path(found: Path) -> Path:
        return (*before, *map(values.escape, found))

    if isinstance(condition, And):
        return And(tuple(in_store(inner, *before) for inner in condition.all))
    if isinstance(condition, Or):
        return Or(tuple(in_store(inner, *before) for inner in condition.any))
    if isinstance(condition, Not):
        return Not(in_store(condition.inner, *before))
    if isinstance(condition, Text):
        return Text(tuple(path(found) for found in condition.paths), condition.text)
    return msgspec.structs.replace(condition, path=path(condition.path))  # type: ignore[attr-defined]


class _Reader:
    """Reads one filter, and counts what is in it."""

    def __init__(self) -> None:
        self._left = MAX_CONDITIONS

    def filter(self, value: Any, field: str, depth: int) -> Condition:
        self._count(field)
        if type(value) is not dict:
            raise _invalid("a filter is an object", field)
        if depth == 0:
            raise _invalid(f"filters nest at most {MAX_DEPTH} levels deep", field)
        return _all([self._member(name, inner, f"{field}.{name}", depth - 1) for name, inner in value.items()])

    def _member(self, name: Any, value: Any, field: str, depth: int) -> Condition:
        if type(name) is not str:
            raise _invalid("a name is a text", field)
        if name == "not":
            return Not(self.filter(value, field, depth))
        if name not in GROUPS:
            return self._field(split(name, field), value, field)
        if type(value) is not list or not value:
            raise _invalid(f"{name} takes a list of filters", field)
        inner = [self.filter(item, f"{field}[{index}]", depth) for index, item in enumerate(value)]
        return GROUPS[name](tuple(inner))

    def _field(self, path: Path, value: Any, field: str) -> Condition:
        if type(value) is not dict or not value:
            raise _invalid('write an operator with its value, as in {"eq": 1}', field)
        return _all([self._operator(path, name, operand, f"{field}.{name}") for name, operand in value.items()])

    def _operator(self, path: Path, name: Any, operand: Any, field: str) -> Condition:
        self._count(field)
        if name not in OPERATORS:
            raise _invalid(f"there is no operator {str(name)[:64]!r}; there are {', '.join(OPERATORS)}", field)
        return OPERATORS[name](path, operand, field)

    def _count(self, field: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise _invalid(f"a filter has at most {MAX_CONDITIONS} operators and filters in it", field)


def _all(conditions: list[Condition]) -> Condition:
    return conditions[0] if len(conditions) == 1 else And(tuple(conditions))


def _scalar(value: Any, field: str) -> Any:
    check_storable(value, field)
    if class_of(value) is None:
        raise _invalid("this operator compares with null, a boolean, a number or a text", field)
    if type(value) is str and len(value) > MAX_TEXT:
        raise _invalid(f"a text to compare with has at most {MAX_TEXT} characters", field)
    return value


def _scalars(value: Any, field: str) -> tuple[Any, ...]:
    if type(value) is not list or len(value) > MAX_OPERANDS:
        raise _invalid(f"this operator takes a list of at most {MAX_OPERANDS} values", field)
    return tuple(_scalar(item, f"{field}[{index}]") for index, item in enumerate(value))


def _ordered(operator: Any) -> Callable[[Path, Any, str], Condition]:
    def make(path: Path, operand: Any, field: str) -> Condition:
        if class_of(_scalar(operand, field)) not in ("number", "text"):
            raise _invalid("only numbers and texts have an order", field)
        return Compare(path, operator, operand)

    return make


def _exists(path: Path, operand: Any, field: str) -> Condition:
    if type(operand) is not bool:
        raise _invalid("exists takes true or false", field)
    return Exists(path) if operand else Not(Exists(path))


def _starts_with(path: Path, operand: Any, field: str) -> Condition:
    if type(_scalar(operand, field)) is not str:
        raise _invalid("starts_with takes a text", field)
    return StartsWith(path, operand)


OPERATORS: dict[str, Callable[[Path, Any, str], Condition]] = {
    "eq": lambda path, operand, field: Compare(path, "eq", _scalar(operand, field)),
    "ne": lambda path, operand, field: Not(Compare(path, "eq", _scalar(operand, field))),
    "gt": _ordered("gt"),
    "gte": _ordered("gte"),
    "lt": _ordered("lt"),
    "lte": _ordered("lte"),
    "in": lambda path, operand, field: OneOf(path, _scalars(operand, field)),
    "nin": lambda path, operand, field: Not(OneOf(path, _scalars(operand, field))),
    "exists": _exists,
    "contains": lambda path, operand, field: Contains(path, _scalar(operand, field)),
    "starts_with": _starts_with,
}


def _invalid(detail: str, field: str) -> Failure:
    return Failure("invalid", detail, field=field)
