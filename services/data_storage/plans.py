"""The query planner: it selects an index, a range of its keys and a residual condition.

If a query has a sort order, only indexes whose fields give that order serve it. Otherwise those serve
whose first fields the filter compares. Among several, the planner selects the one that the filter
narrows most. A query that no index serves is allowed only for few items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aidevos.queries import EVERYTHING, And, Compare, Condition, OneOf, Path, Scalar, conjuncts

from .keys import END, Range, Ranged, compute_key_range, parse_index
from .paths import Field
from .terms import Index


class Plan(NamedTuple):
    """A scan of the keys of a slot within a range, in ascending or `descending` order.

    Only items that satisfy the `residual` condition match. Without a slot, the scan is by the items' IDs.
    """

    slot: str | None
    keys: Range
    descending: bool
    residual: Condition


class _PathConditions(NamedTuple):
    """The conditions of a filter on single paths."""

    equal: dict[Path, Compare]
    ranges: dict[Path, list[Ranged]]


class _Candidate(NamedTuple):
    """A plan and its rank; the highest rank wins.

    The rank counts the conditions that the index serves. Fewer fields break a tie, because every change of
    an indexed field can move an item to another page.
    """

    rank: tuple[int, int, int]
    plan: Plan


def plan(where: Condition, sort: Sequence[Field], indexes: dict[str, Index]) -> Plan | None:
    """Return the plan for a filter on the data and a sort order, or None if no complete index serves them."""
    conditions = list(conjuncts(where))
    wanted = _group_by_path(conditions)
    order = [field for field in sort if field.path not in wanted.equal]
    if not conditions and not order:
        return Plan(None, Range("", END), False, EVERYTHING)
    candidates = [
        candidate
        for slot, index in indexes.items()
        if index.complete
        and (candidate := _plan_by_index(slot, parse_index(index.paths), conditions, wanted, order)) is not None
    ]
    return max(candidates, key=lambda candidate: candidate.rank).plan if candidates else None


def _group_by_path(conditions: Iterable[Condition]) -> _PathConditions:
    wanted = _PathConditions({}, {})
    for condition in conditions:
        if isinstance(condition, Compare) and condition.operator == "eq":
            wanted.equal.setdefault(condition.path, condition)
        elif isinstance(condition, Ranged):
            wanted.ranges.setdefault(condition.path, []).append(condition)
    return wanted


def _plan_by_index(
    slot: str, fields: tuple[Field, ...], conditions: list[Condition], wanted: _PathConditions, order: list[Field]
) -> _Candidate | None:
    descending = _find_direction(fields, wanted, order)
    if descending is None:
        return None
    prefix: list[tuple[Scalar, bool]] = []
    served: list[Condition] = []
    for field in fields:
        if field.path not in wanted.equal:
            break
        prefix.append((wanted.equal[field.path].value, field.descending))
        served.append(wanted.equal[field.path])
    following = fields[len(prefix)] if len(prefix) < len(fields) else None
    ranges = wanted.ranges.get(following.path, []) if following is not None else []
    if not prefix and not ranges and not order:
        return None
    keys = compute_key_range(prefix, ranges, following is not None and following.descending)
    served += [condition for condition in ranges if not isinstance(condition, OneOf)]
    residual = tuple(condition for condition in conditions if not any(condition is one for one in served))
    return _Candidate((len(prefix), len(ranges), -len(fields)), Plan(slot, keys, descending, And(residual)))


def _find_direction(fields: tuple[Field, ...], wanted: _PathConditions, order: list[Field]) -> bool | None:
    """Return True if the index must be read backwards for the order, or None if it can't give the order."""
    if not order:
        return False
    varying = [field for field in fields if field.path not in wanted.equal][: len(order)]
    if [field.path for field in varying] != [field.path for field in order]:
        return None
    reversals = {one.descending != other.descending for one, other in zip(varying, order, strict=True)}
    return reversals.pop() if len(reversals) == 1 else None
