"""Conditions on a state, for searches.

A path is a tuple of names that leads through maps, never into lists: a value behind a list counts as missing. A dot in
a name is an ordinary character. Values are compared only within their class (null, boolean, number, text), so 1 equals
1.0, and neither equals true or "1".

A condition is either true or false of a state, and `Not` is its exact opposite. So `Not` of an equality is true if the
value is missing, of another class, a map or a list. A list equals nothing; use `Contains` or `Includes` to look into
it.
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
    """Base of all conditions. The constructors raise `TypeError` for a value that the condition can't compare."""


class Compare(Condition, frozen=True):
    """True if the value at the path has the class of `value` and compares to it as `operator` says.

    Only numbers and text have an order. `scalar` says that the state's type allows no list at the path, nor at any
    before it. MongoDB then tests nothing else, and compares for a third of the cost.
    """

    path: Path
    operator: Operator
    value: Scalar
    scalar: bool = False

    def __post_init__(self) -> None:
        _require_scalar(self.value)
        if self.operator != "eq" and class_of(self.value) not in ("number", "text"):
            raise TypeError(f"{self.value!r} has no order")


class OneOf(Condition, frozen=True):
    """True if the value at the path equals one of `values`."""

    path: Path
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        for value in self.values:
            _require_scalar(value)


class Exists(Condition, frozen=True):
    """True if there is a value at the path, even null."""

    path: Path


class Contains(Condition, frozen=True):
    """True if the path leads to a list with an element equal to `value`, or to a text that contains `value`."""

    path: Path
    value: Scalar

    def __post_init__(self) -> None:
        _require_scalar(self.value)


class Includes(Condition, frozen=True):
    """True if the path leads to a list with an element equal to `value`. Unlike `Contains`, it can use an index."""

    path: Path
    value: Scalar

    def __post_init__(self) -> None:
        _require_scalar(self.value)


class StartsWith(Condition, frozen=True):
    """True if the value at the path is a text that begins with `prefix`."""

    path: Path
    prefix: str


class Text(Condition, frozen=True):
    """True if a text at one of the paths contains `text`, ignoring case.

    A letter without a one-to-one pair of upper and lower case (ß, İ) matches at least itself.
    """

    paths: tuple[Path, ...]
    text: str


class And(Condition, frozen=True):
    """True if all of these are true. An empty `And` is always true."""

    all: tuple[Condition, ...]


class Or(Condition, frozen=True):
    """True if at least one of these is true. An empty `Or` is never true."""

    any: tuple[Condition, ...]


class Not(Condition, frozen=True):
    """True if `inner` is false."""

    inner: Condition


EVERYTHING = And(())


def class_of(value: Any) -> str | None:
    """Return the class within which a value is compared: "text", "number", "boolean" or "null".

    Return None for a value that equals nothing, such as a map, a list, NaN or an infinity.
    """
    kind = type(value)
    if kind is str:
        return "text"
    if kind is int or (kind is float and math.isfinite(value)):
        return "number"
    if kind is bool:
        return "boolean"
    return "null" if value is None else None


def _require_scalar(value: Any) -> None:
    if class_of(value) is None:
        raise TypeError(f"{value!r} is not a scalar")


def equal(one: Any, other: Any) -> bool:
    """True if two values are equal and of the same class."""
    return one == other and class_of(one) is not None and class_of(one) == class_of(other)


def at(value: Any, path: Path) -> Any:
    """Return the value at a path, or `MISSING`."""
    for name in path:
        if type(value) is not dict or name not in value:
            return MISSING
        value = value[name]
    return value


def conjuncts(condition: Condition) -> Iterator[Condition]:
    """Yield the conditions that must all be true, including those of nested `And`s."""
    if isinstance(condition, And):
        for inner in condition.all:
            yield from conjuncts(inner)
    else:
        yield condition


def matches(condition: Condition, value: Any) -> bool:
    """True if the condition is true of a value."""
    return _matches(condition, value)


@singledispatch
def _matches(condition: Condition, value: Any) -> bool:
    raise TypeError(f"{condition!r} is not a condition")


@_matches.register
def _(condition: Compare, value: Any) -> bool:
    actual = at(value, condition.path)
    same = class_of(actual) == class_of(condition.value)
    return same and COMPARISONS[condition.operator](actual, condition.value)


@_matches.register
def _(condition: OneOf, value: Any) -> bool:
    actual = at(value, condition.path)
    return any(equal(actual, value) for value in condition.values)


@_matches.register
def _(condition: Exists, value: Any) -> bool:
    return at(value, condition.path) is not MISSING


@_matches.register
def _(condition: Contains, value: Any) -> bool:
    actual = at(value, condition.path)
    if type(actual) is list:
        return any(equal(item, condition.value) for item in actual)
    return type(actual) is str and type(condition.value) is str and condition.value in actual


@_matches.register
def _(condition: Includes, value: Any) -> bool:
    actual = at(value, condition.path)
    return type(actual) is list and any(equal(item, condition.value) for item in actual)


@_matches.register
def _(condition: StartsWith, value: Any) -> bool:
    actual = at(value, condition.path)
    return type(actual) is str and actual.startswith(condition.prefix)


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
