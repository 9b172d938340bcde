"""Filters, sort orders and projections as callers write them.

    {"price": {"gte": 10, "lt": 20}, "or": [{"name": {"starts_with": "a"}}, {"tags": {"contains": "new"}}]}

A filter is an object, all of whose members must hold. The name of a member is a path in `data`, written
as in `paths`, or one of `and`, `or` and `not`. `and` and `or` take a list of filters, `not` takes a filter.
A path takes an object of operators:

- `eq`, `ne`: a scalar. `in`, `nin`: a list of scalars. `exists`: true or false.
- `gt`, `gte`, `lt`, `lte`: a number or a text. `starts_with`: a text.
- `contains`: a scalar that is in a list, or a text that is part of a text.

`aidevos.queries` defines the operators for each kind of value. `ne` and `nin` are true exactly where
`eq` and `in` are false, so they are also true if the value is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
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
    """Return the filter as a condition on `data`. Raises `invalid` with the path in the filter."""
    return _Parser().parse(filter, field, MAX_DEPTH)


@lru_cache(maxsize=1000)
def parse_sort(sort: str, field: str = "sort") -> tuple[Field, ...]:
    """Return the sort order of a text like `-price,name`. Raises `invalid`, also for a repeated path."""
    fields = tuple(parse_field(part, field) for part in split_list(sort, field, MAX_SORT))
    if len({found.path for found in fields}) < len(fields):
        raise Failure("invalid", "a path occurs twice", field=field)
    return fields


def parse_fields(fields: str, field: str = "fields") -> list[Path]:
    """Return the paths of a text like `name,address.city`. Raises `invalid`."""
    return [split(part, field) for part in split_list(fields, field, MAX_FIELDS)]


def project(data: Any, paths: list[Path]) -> Any:
    """Return the parts of a document at these paths, in their places. A document that isn't a map is unchanged."""
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


def to_state_condition(condition: Condition, *prefix: str) -> Condition:
    """Convert a condition on a document to one on the state that has the encoded document at the path `prefix`."""

    def convert(path: Path) -> Path:
        return (*prefix, *map(values.escape, path))

    if isinstance(condition, And):
        return And(tuple(to_state_condition(inner, *prefix) for inner in condition.all))
    if isinstance(condition, Or):
        return Or(tuple(to_state_condition(inner, *prefix) for inner in condition.any))
    if isinstance(condition, Not):
        return Not(to_state_condition(condition.inner, *prefix))
    if isinstance(condition, Text):
        return Text(tuple(convert(path) for path in condition.paths), condition.text)
    return msgspec.structs.replace(condition, path=convert(condition.path))  # type: ignore[attr-defined]


class _Parser:
    """A parser for one filter, which bounds the number of conditions."""

    def __init__(self) -> None:
        self._left = MAX_CONDITIONS

    def parse(self, value: Any, field: str, depth: int) -> Condition:
        self._count(field)
        if type(value) is not dict:
            raise _invalid("a filter must be an object", field)
        if depth == 0:
            raise _invalid(f"filters may nest at most {MAX_DEPTH} levels deep", field)
        return _join([self._parse_member(name, inner, f"{field}.{name}", depth - 1) for name, inner in value.items()])

    def _parse_member(self, name: Any, value: Any, field: str, depth: int) -> Condition:
        if type(name) is not str:
            raise _invalid("a name must be a text", field)
        if name == "not":
            return Not(self.parse(value, field, depth))
        if name not in GROUPS:
            return self._parse_path(split(name, field), value, field)
        if type(value) is not list or not value:
            raise _invalid(f"{name} takes a list of filters", field)
        inner = [self.parse(item, f"{field}[{index}]", depth) for index, item in enumerate(value)]
        return GROUPS[name](tuple(inner))

    def _parse_path(self, path: Path, value: Any, field: str) -> Condition:
        if type(value) is not dict or not value:
            raise _invalid('write an operator with its value, as in {"eq": 1}', field)
        return _join([self._parse_operator(path, name, operand, f"{field}.{name}") for name, operand in value.items()])

    def _parse_operator(self, path: Path, name: Any, operand: Any, field: str) -> Condition:
        self._count(field)
        if name not in OPERATORS:
            detail = f"there is no operator {str(name)[:64]!r}; the operators are {', '.join(OPERATORS)}"
            raise _invalid(detail, field)
        return OPERATORS[name](path, operand, field)

    def _count(self, field: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise _invalid(f"a filter may contain at most {MAX_CONDITIONS} operators and filters", field)


def _join(conditions: list[Condition]) -> Condition:
    return conditions[0] if len(conditions) == 1 else And(tuple(conditions))


def _check_scalar(value: Any, field: str) -> Any:
    check_storable(value, field)
    if class_of(value) is None:
        raise _invalid("this operator takes null, a boolean, a number or a text", field)
    if type(value) is str and len(value) > MAX_TEXT:
        raise _invalid(f"a text in a filter may have at most {MAX_TEXT} characters", field)
    return value


def _check_scalars(value: Any, field: str) -> tuple[Any, ...]:
    if type(value) is not list or len(value) > MAX_OPERANDS:
        raise _invalid(f"this operator takes a list of at most {MAX_OPERANDS} values", field)
    return tuple(_check_scalar(item, f"{field}[{index}]") for index, item in enumerate(value))


def _comparison(operator: Any) -> Callable[[Path, Any, str], Condition]:
    def make(path: Path, operand: Any, field: str) -> Condition:
        if class_of(_check_scalar(operand, field)) not in ("number", "text"):
            raise _invalid("this operator takes a number or a text", field)
        return Compare(path, operator, operand)

    return make


def _exists(path: Path, operand: Any, field: str) -> Condition:
    if type(operand) is not bool:
        raise _invalid("exists takes true or false", field)
    return Exists(path) if operand else Not(Exists(path))


def _starts_with(path: Path, operand: Any, field: str) -> Condition:
    if type(_check_scalar(operand, field)) is not str:
        raise _invalid("starts_with takes a text", field)
    return StartsWith(path, operand)


OPERATORS: dict[str, Callable[[Path, Any, str], Condition]] = {
    "eq": lambda path, operand, field: Compare(path, "eq", _check_scalar(operand, field)),
    "ne": lambda path, operand, field: Not(Compare(path, "eq", _check_scalar(operand, field))),
    "gt": _comparison("gt"),
    "gte": _comparison("gte"),
    "lt": _comparison("lt"),
    "lte": _comparison("lte"),
    "in": lambda path, operand, field: OneOf(path, _check_scalars(operand, field)),
    "nin": lambda path, operand, field: Not(OneOf(path, _check_scalars(operand, field))),
    "exists": _exists,
    "contains": lambda path, operand, field: Contains(path, _check_scalar(operand, field)),
    "starts_with": _starts_with,
}


def _invalid(detail: str, field: str) -> Failure:
    return Failure("invalid", detail, field=field)
