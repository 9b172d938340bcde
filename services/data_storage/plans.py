"""How a query goes: by which index, from where to where, and what is left to look at.

A query is served by an index whose fields give its order, where it asks for one, and else by one
whose first fields its filter compares. Of several, the one that the filter narrows most is taken.
What no index serves can only be asked of few items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aidevos.queries import EVERYTHING, And, Compare, Condition, OneOf, Path, Scalar, conjuncts

from .keys import END, Range, Ranged, fields_of, key_range
from .paths import Field
from .terms import Index


class Plan(NamedTuple):
    """Go by the keys in a slot that are within the range, in their order or, if `descending`, against it,
    and keep what the `residual` condition is true of. Without a slot: by the items' IDs."""

    slot: str | None
    keys: Range
    descending: bool
    residual: Condition


class _Wanted(NamedTuple):
    """What a filter says of single fields, each condition beside its path."""

    equal: dict[Path, Compare]
    ranges: dict[Path, list[Ranged]]


class _Offer(NamedTuple):
    """A plan, and how much of the filter it serves, with as few fields beyond as can be: by changes of those
    an item would move to another page."""

    served: tuple[int, int, int]
    plan: Plan


def plan(where: Condition, sort: Sequence[Field], indexes: dict[str, Index]) -> Plan | None:
    """The plan for a filter on the data and an order, by the indexes that are complete; None where
    none of them serves it."""
    conditions = list(conjuncts(where))
    wanted = _sort_out(conditions)
    order = [field for field in sort if field.path not in wanted.equal]
    if not conditions and not order:
        return Plan(None, Range("", END), False, EVERYTHING)
    offers = [
        offer
        for slot, index in indexes.items()
        if index.complete and (offer := _offer(slot, fields_of(index.paths), conditions, wanted, order)) is not None
    ]
    return max(offers, key=lambda offer: offer.served).plan if offers else None


def _sort_out(conditions: Iterable[Condition]) -> _Wanted:
    wanted = _Wanted({}, {})
    for condition in conditions:
        if isinstance(condition, Compare) and condition.operator == "eq":
            wanted.equal.setdefault(condition.path, condition)
        elif isinstance(condition, Ranged):
            wanted.ranges.setdefault(condition.path, []).append(condition)
    return wanted


def _offer(
    slot: str, fields: tuple[Field, ...], conditions: list[Condition], wanted: _Wanted, order: list[Field]
) -> _Offer | None:
    backwards = _serves(fields, wanted, order)
    if backwards is None:
        return None
    prefix: list[tuple[Scalar, bool]] = []
    done: list[Condition] = []
    for field in fields:
        if field.path not in wanted.equal:
            break
        prefix.append((wanted.equal[field.path].value, field.descending))
        done.append(wanted.equal[field.path])
    then = fields[len(prefix)] if len(prefix) < len(fields) else None
    ranges = wanted.ranges.get(then.path, []) if then is not None else []
    if not prefix and not ranges and not order:
        return None
    keys = key_range(prefix, ranges, then is not None and then.descending)
    done += [condition for condition in ranges if not isinstance(condition, OneOf)]
    left = tuple(condition for condition in conditions if not any(condition is one for one in done))
    return _Offer((len(prefix), len(ranges), -len(fields)), Plan(slot, keys, backwards, And(left)))


def _serves(fields: tuple[Field, ...], wanted: _Wanted, order: list[Field]) -> bool | None:
    """Whether the index is to be read backwards for the order; None if it can't give it."""
    if not order:
        return False
    varying = [field for field in fields if field.path not in wanted.equal][: len(order)]
    if [field.path for field in varying] != [field.path for field in order]:
        return None
    turned = {one.descending != other.descending for one, other in zip(varying, order, strict=True)}
    return turned.pop() if len(turned) == 1 else None
