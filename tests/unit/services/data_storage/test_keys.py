"""Keys sort as their values do, and a plan finds exactly the filter's matches, in order."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from aidevos.durable.store.conditions import (
    MISSING,
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
    at,
    conjuncts,
    matches,
)
from services.data_storage.keys import MAX_TEXT, compute_index_keys, compute_key_range, encode_key
from services.data_storage.paths import Field
from services.data_storage.plans import plan
from services.data_storage.terms import Index

EDGES = [0, -0.0, 1, 1.0, -1, 0.5, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), float(2**63), 5e-324, -5e-324]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(["", "\0", "a", "a\0", "ab"])
numbers = (
    st.sampled_from(EDGES)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(2**62, 2**63 - 1).map(float)
)
values = st.none() | st.booleans() | numbers | texts | st.just(MISSING) | st.just([]) | st.just({"a": 1})
keyed = st.tuples(values, st.booleans())


def rank(value: Any) -> int:
    if value is MISSING:
        return 0
    kinds = [type(None), bool, (int, float), str, (list, dict)]
    return next(place for place, kind in enumerate(kinds, 1) if isinstance(value, kind))


def compare(one: Any, other: Any) -> int:
    """Compare two values, independently of the code under test."""
    if rank(one) != rank(other):
        return rank(one) - rank(other)
    if rank(one) in (0, 1, 5) or one == other:
        return 0
    return -1 if one < other else 1


def sign(one: str, other: str) -> int:
    return (one > other) - (one < other)


@given(st.lists(st.tuples(values, values, st.booleans()), min_size=1, max_size=3))
@example([("a", "a\0", True)])
@example([(2**53 + 1, float(2**53), False)])
@example([(0.0, -0.0, False)])
@example([(-5e-324, -0.0, False)])
@example([("a", "a", True), (MISSING, None, False)])
def test_the_order_of_keys_is_that_of_their_values(parts: list[tuple[Any, Any, bool]]) -> None:
    one = encode_key((left, descending) for left, _, descending in parts)
    other = encode_key((right, descending) for _, right, descending in parts)
    expected = 0
    for left, right, descending in parts:
        expected = expected or compare(left, right) * (-1 if descending else 1)
    assert sign(one, other) == (expected > 0) - (expected < 0)
    assert sign(one.encode(), other.encode()) == sign(one, other)  # type: ignore[arg-type]


@given(st.lists(keyed, max_size=2), st.lists(st.tuples(values, st.booleans(), texts), min_size=1), st.data())
def test_a_range_holds_exactly_the_keys_that_its_conditions_are_true_of(
    prefix: list[tuple[Any, bool]], others: list[tuple[Any, bool, str]], data: st.DataObject
) -> None:
    descending = data.draw(st.booleans())
    scalars = [value for value, _, _ in others if not isinstance(value, list | dict) and value is not MISSING] + [1]
    condition = data.draw(ranged(st.sampled_from(scalars), st.just(("a",))))
    low, high = compute_key_range(prefix, [condition], descending)
    for value, same, text in others:
        before = prefix if same else [(text, down) for _, down in prefix]
        document = {} if value is MISSING else {"a": value}
        key = encode_key([*before, (value, descending)]) + "an-ID"
        inside = encode_key(before) == encode_key(prefix) and matches(condition, document)
        if isinstance(condition, OneOf):
            assert not inside or low <= key < high
        else:
            assert inside == (low <= key < high)


def ranged(scalars: st.SearchStrategy[Any], paths: st.SearchStrategy[Path]) -> st.SearchStrategy[Any]:
    ordered = scalars.filter(lambda value: type(value) in (int, float, str)) | texts
    return (
        st.builds(Compare, paths, st.just("eq"), scalars)
        | st.builds(Compare, paths, st.sampled_from(["gt", "gte", "lt", "lte"]), ordered)
        | st.builds(OneOf, paths, st.lists(scalars, max_size=3).map(tuple))
        | st.builds(StartsWith, paths, texts)
    )


NAMES = ["a", "b", "c"]
few = st.sampled_from([None, True, 0, 1, 2, 1.5, "", "a", "ab", "b", [1]])
documents = st.dictionaries(st.sampled_from(NAMES), few)
paths = st.sampled_from(NAMES).map(lambda name: (name,))
leaves: st.SearchStrategy[Condition] = ranged(few.filter(lambda value: value != [1]), paths) | (
    st.builds(Exists, paths) | st.builds(Contains, paths, st.just(1))
)
filters: st.SearchStrategy[Condition] = st.lists(
    leaves | st.builds(Not, leaves) | st.lists(leaves, min_size=1, max_size=2).map(lambda found: Or(tuple(found))),
    max_size=3,
).map(lambda found: And(tuple(found)))
orders = st.lists(st.builds(Field, paths, st.booleans()), max_size=2, unique_by=lambda field: field.path)
indexes = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["", "-"]), st.sampled_from(NAMES)),
        min_size=1,
        max_size=3,
        unique_by=lambda one: one[1],
    ).map(lambda parts: Index(tuple(minus + name for minus, name in parts), complete=True)),
    max_size=3,
).map(lambda found: {str(slot): index for slot, index in enumerate(found)})


def before(one: Any, other: Any, order: list[Field]) -> int:
    for field in order:
        found = compare(at(one, field.path), at(other, field.path)) * (-1 if field.descending else 1)
        if found:
            return found
    return 0


@given(st.lists(documents, max_size=12), filters, orders, indexes)
def test_a_plan_finds_what_the_filter_is_true_of_in_the_order_asked_for(
    data: list[Any], where: Condition, order: list[Field], indexes: dict[str, Index]
) -> None:
    made = plan(where, order, indexes)
    if made is None or made.slot is None:
        assert made is None or not (order or list(conjuncts(where)))
        return
    keys = [(compute_index_keys(indexes, document, f"{id:02}")[made.slot], id) for id, document in enumerate(data)]
    inside = [(key, id) for key, id in keys if made.keys.low <= key < made.keys.high]
    found = [id for _, id in sorted(inside, reverse=made.descending) if matches(made.residual, data[id])]

    assert sorted(found) == [id for id, document in enumerate(data) if matches(where, document)]
    assert all(before(data[one], data[other], order) <= 0 for one, other in itertools.pairwise(found))


def complete(*indexes: str) -> dict[str, Index]:
    return {str(slot): Index(tuple(index.split(",")), complete=True) for slot, index in enumerate(indexes)}


def eq(name: str, value: Any = 1) -> Compare:
    return Compare((name,), "eq", value)


def chosen(where: list[Condition], order: list[Field], indexes: dict[str, Index]) -> Any:
    """Return the plan's slot, if it is read backwards, and the number of remaining conditions."""
    made = plan(And(tuple(where)), order, indexes)
    return made and (made.slot, made.descending, len(list(conjuncts(made.residual))))


def test_the_plan_takes_the_index_that_the_filter_narrows_most() -> None:
    a, b, more = eq("a"), eq("b"), Compare(("b",), "gt", 1)
    by_a, down_b = Field(("a",)), Field(("b",), descending=True)
    assert chosen([], [], complete("a")) == (None, False, 0)
    assert chosen([a], [], {}) is None
    assert chosen([a], [], complete("b")) is None
    assert chosen([a], [], complete("b", "a")) == ("1", False, 0)
    assert chosen([a, b], [], complete("a", "b,c", "b,-a")) == ("2", False, 0)
    assert chosen([a], [by_a], complete("a,b", "a", "a,c")) == ("1", False, 0)
    assert chosen([a, more], [], complete("a", "a,-b")) == ("1", False, 0)
    assert chosen([OneOf(("a",), (1, 3))], [], complete("a")) == ("0", False, 1)
    assert chosen([a, Exists(("c",))], [], complete("a")) == ("0", False, 1)
    assert chosen([], [by_a], complete("b,a", "a")) == ("1", False, 0)
    assert chosen([], [by_a], complete("-a")) == ("0", True, 0)
    assert chosen([], [by_a, down_b], complete("a,b", "-a,b")) == ("1", True, 0)
    assert chosen([b], [by_a], complete("a", "b,a")) == ("1", False, 0)
    assert chosen([b], [by_a], complete("b")) is None
    assert chosen([b], [by_a], complete("a")) == ("0", False, 1)
    assert chosen([a], [by_a], complete("a")) == ("0", False, 0)
    assert chosen([b], [by_a, down_b], complete("a")) == ("0", False, 1)
    assert chosen([Or((a, b))], [], complete("a", "b")) is None
    assert chosen([a, eq("a", 2)], [], complete("a")) == ("0", False, 1)


def test_an_index_that_is_not_complete_serves_nothing() -> None:
    assert chosen([eq("a")], [], {"0": Index(("a",), complete=False)}) is None


def test_of_a_long_text_so_much_counts_that_no_comparison_is_wrong() -> None:
    longest = "x" * MAX_TEXT
    low, high = compute_key_range([], [Compare(("a",), "eq", longest)])
    keys = [
        compute_index_keys(complete("a"), {"a": text}, "id")["0"]
        for text in (longest, longest + "y", longest + "y" * 99)
    ]
    assert [low <= key < high for key in keys] == [True, False, False]
    assert keys == sorted(keys)
    assert len(keys[-1]) < MAX_TEXT + 10


def test_a_key_is_made_of_the_names_that_a_path_spells() -> None:
    data = {"a.b": 1, "a": {"b": 2}, "-c": 3}
    indexes = {"0": Index((r"a\.b",)), "1": Index(("a.b",)), "2": Index((r"\-c",)), "3": Index(("-a.b",))}
    expected = [(1, False), (2, False), (3, False), (2, True)]
    assert list(compute_index_keys(indexes, data, "").values()) == [encode_key([part]) for part in expected]
