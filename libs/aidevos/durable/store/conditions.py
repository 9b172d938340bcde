"""Conditions on a state: what a search may ask, and what each means.

A path is a tuple of names that leads through maps, never into lists: what stands behind a list is
missing, and a dot in a name is a dot. Values are compared within their class only (null, booleans,
numbers, text), so 1 equals 1.0 and neither equals true or "1". Each condition is true or false of a
state, and `Not` is the exact opposite: `Not` of an equality holds where the value is missing, of
another class, a map or a list. A list equals nothing; `Contains` looks into one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import singledispatch
from operator import eq, ge, gt, le, lt
from typing import Any, Literal, TypeAlias

import msgspec

Path: TypeAlias = tuple[str, ...]
Scalar: TypeAlias = str | int | float | bool | None
Operator = Literal["eq", "gt", "gte", "lt", "lte"]
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"eq": eq, "gt": gt, "gte": ge, "lt": lt, "lte": le}
MISSING = object()


class Condition(msgspec.Struct, frozen=True):
    """Base of all conditions. Making one of another value than it takes raises `TypeError`."""


class Compare(Condition, frozen=True):
    """The value at the path is a scalar of this value's class, and stands so to it. Only numbers and
    text have an order."""

    path: Path
    operator: Operator
    value: Scalar

    def __post_init__(self) -> None:
        _check(self.value)
        if self.operator != "eq" and class_of(self.value) not in ("number", "text"):
            raise TypeError(f"{self.value!r} has no order")


class OneOf(Condition, frozen=True):
    """The value at the path equals one of these."""

    path: Path
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        for value in self.values:
            _check(value)


class Exists(Condition, frozen=True):
    """Something stands at the path, be it null."""

    path: Path


class Contains(Condition, frozen=True):
    """At the path stands a list in which a scalar equals this one, or a text that this text is a part of."""

    path: Path
    value: Scalar

    def __post_init__(self) -> None:
        _check(self.value)


class Includes(Condition, frozen=True):
    """At the path stands a list in which a scalar equals this one. Unlike `Contains` it is served by an index."""

    path: Path
    value: Scalar

    def __post_init__(self) -> None:
        _check(self.value)


class StartsWith(Condition, frozen=True):
    """The value at the path is a text that begins so."""

    path: Path
    prefix: str


class Text(Condition, frozen=True):
    """A text at one of the paths has this one as a part, without regard to case. Letters that have
    no pair of one upper and one lower case (ß, İ) equal themselves at least."""

    paths: tuple[Path, ...]
    text: str


class And(Condition, frozen=True):
    """All of these hold; of none, that is always so."""

    all: tuple[Condition, ...]


class Or(Condition, frozen=True):
    """One of these holds; of none, that is never so."""

    any: tuple[Condition, ...]


class Not(Condition, frozen=True):
    inner: Condition


EVERYTHING = And(())


def class_of(value: Any) -> str | None:
    """The class within which a value is compared; None for one that equals nothing."""
    kind = type(value)
    if kind is str:
        return "text"
    if kind is int or (kind is float and math.isfinite(value)):
        return "number"
    if kind is bool:
        return "boolean"
    return "null" if value is None else None


def _check(value: Any) -> None:
    if class_of(value) is None:
        raise TypeError(f"{value!r} is no scalar")


def equal(one: Any, other: Any) -> bool:
    return one == other and class_of(one) is not None and class_of(one) == class_of(other)


def at(value: Any, path: Path) -> Any:
    """What stands at a path, or `MISSING`."""
    for name in path:
        if type(value) is not dict or name not in value:
            return MISSING
        value = value[name]
    return value


def conjuncts(condition: Condition) -> Iterator[Condition]:
    """The conditions that all have to hold, those of nested `And` too."""
    if isinstance(condition, And):
        for inner in condition.all:
            yield from conjuncts(inner)
    else:
        yield condition


def matches(condition: Condition, value: Any) -> bool:
    """Whether the condition is true of a value."""
    return _matches(condition, value)


@singledispatch
def _matches(condition: Condition, value: Any) -> bool:
    raise TypeError(f"{condition!r} is no condition")


@_matches.register
def _(condition: Compare, value: Any) -> bool:
    found = at(value, condition.path)
    same = class_of(found) == class_of(condition.value)
    return same and COMPARISONS[condition.operator](found, condition.value)


@_matches.register
def _(condition: OneOf, value: Any) -> bool:
    found = at(value, condition.path)
    return any(equal(found, wanted) for wanted in condition.values)


@_matches.register
def _(condition: Exists, value: Any) -> bool:
    return at(value, condition.path) is not MISSING


@_matches.register
def _(condition: Contains, value: Any) -> bool:
    found = at(value, condition.path)
    if type(found) is list:
        return any(equal(item, condition.value) for item in found)
    return type(found) is str and type(condition.value) is str and condition.value in found


@_matches.register
def _(condition: Includes, value: Any) -> bool:
    found = at(value, condition.path)
    return type(found) is list and any(equal(item, condition.value) for item in found)


@_matches.register
def _(condition: StartsWith, value: Any) -> bool:
    found = at(value, condition.path)
    return type(found) is str and found.startswith(condition.prefix)


@_matches.register
def _(condition: Text, value: Any) -> bool:
    pattern = re.compile(re.escape(condition.text), re.IGNORECASE)
    texts = (at(value, path) for path in condition.paths)
    return any(type(text) is str and pattern.search(text) is not None for text in texts)


@_matches.register
def _(condition: And, value: Any) -> bool:
    return all(_matches(inner, value) for inner in condition.all)


@_matches.register
def _(condition: Or, value: Any) -> bool:
    return any(_matches(inner, value) for inner in condition.any)


@_matches.register
def _(condition: Not, value: Any) -> bool:
    return not _matches(condition.inner, value)
