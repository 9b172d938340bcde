"""A condition selects the same states in MongoDB as in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.durable.store import codec
from aidevos.durable.store.conditions import (
    EVERYTHING,
    And,
    Compare,
    Condition,
    Contains,
    Exists,
    Includes,
    Not,
    OneOf,
    Or,
    StartsWith,
    Text,
    matches,
)
from aidevos.durable.store.mongo_filter import compile_condition
from tests.support.kits import examples
from tests.support.servers import Servers

NAMES = ["a", "b", "0", "é"]
# A few values that often match each other, and the boundary values of each type.
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "aB.",
    ".*",
    "^a",
    "a\nb",
    "a\0b",
    "\0",
    "é\U0001f600",
    "É",
    "1",
    "x" * 300,
    "\\Q",
    "$a",
    "%",
]
NUMBERS = [0, -0.0, 1, 1.0, 1.5, -1, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), float(2**63), 1e308, 5e-324]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple)


def states_of(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    below = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(st.sampled_from(NAMES), below)


def conditions_of(scalars: st.SearchStrategy[Any], texts: st.SearchStrategy[str]) -> st.SearchStrategy[Condition]:
    ordered = scalars.filter(lambda value: isinstance(value, str | int | float) and not isinstance(value, bool)) | texts
    leaves: st.SearchStrategy[Any] = (
        st.builds(Compare, paths, st.just("eq"), scalars)
        | st.builds(Compare, paths, st.sampled_from(["gt", "gte", "lt", "lte"]), ordered)
        | st.builds(OneOf, paths, st.lists(scalars, max_size=4).map(tuple))
        | st.builds(Exists, paths)
        | st.builds(Contains, paths, scalars | texts)
        | st.builds(Includes, paths, scalars | texts)
        | st.builds(StartsWith, paths, texts)
        | st.builds(Text, st.lists(paths, max_size=2).map(tuple), texts)
    )

    def several(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=3).map(tuple)

    return st.recursive(
        leaves,
        lambda inner: st.builds(And, several(inner)) | st.builds(Or, several(inner)) | st.builds(Not, inner),
        max_leaves=6,
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Any], list[Condition]]:
    """Generate states and conditions from the same few values, so that they match often."""
    some_texts = draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2))
    others = draw(st.lists(st.sampled_from([None, True, False, *NUMBERS]), min_size=1, max_size=3))
    texts, scalars = st.sampled_from(some_texts), st.sampled_from([*some_texts, *others])
    states = draw(st.lists(states_of(scalars), min_size=1, max_size=8))
    return states, draw(st.lists(conditions_of(scalars, texts), min_size=1, max_size=10))


@pytest.fixture(scope="module")
def collection(servers: Servers) -> Iterator[Any]:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        yield client["test_conditions"]["states"]
        client.drop_database("test_conditions")


def found(collection: Any, condition: Condition) -> list[int]:
    return sorted(document["_id"] for document in collection.find(compile_condition(condition), projection=["_id"]))


@examples(150)
@given(worlds())
def test_any_condition_is_true_of_the_same_states_in_memory_and_in_mongodb(
    collection: Any, world: tuple[list[Any], list[Condition]]
) -> None:
    states, conditions = world
    collection.delete_many({})
    documents = ({"_id": id, "state": codec.Encoded(codec.encode(state))} for id, state in enumerate(states))
    collection.insert_many(list(documents))
    for condition in conditions:
        expected = [id for id, state in enumerate(states) if matches(condition, state)]
        assert found(collection, condition) == expected


STATES: list[Any] = [
    {},
    {"a": None},
    {"a": True},
    {"a": 1},
    {"a": 1.0},
    {"a": "1"},
    {"a": [1, "b", None]},
    {"a": [[1]]},
    {"a": {"b": 2}},
    {"a": [{"b": 2}]},
    {"a": {"0": {"b": "abc"}}},
    {"a": "é\0[.*"},
]


def eq(value: Any, *path: str) -> Compare:
    return Compare(path or ("a",), "eq", value)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (eq(1), [3, 4]),
        (eq(None), [1]),
        (eq(True), [2]),
        (eq("1"), [5]),
        (Not(eq(1)), [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]),
        (Compare(("a",), "gte", 0), [3, 4]),
        (Compare(("a",), "lt", "2"), [5]),
        (OneOf(("a",), (None, 1)), [1, 3, 4]),
        (OneOf(("a",), ()), []),
        (Exists(("a",)), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (Exists(("a", "b")), [8]),
        (Exists(("a", "0")), [10]),
        (eq(2, "a", "b"), [8]),
        (eq("abc", "a", "0", "b"), [10]),
        (Contains(("a",), 1), [6]),
        (Contains(("a",), None), [6]),
        (Contains(("a",), "b"), [6]),
        (Contains(("a", "0", "b"), "bc"), [10]),
        (Includes(("a",), "b"), [6]),
        (Includes(("a",), None), [6]),
        (Includes(("a", "0", "b"), "abc"), []),
        (StartsWith(("a", "0", "b"), "ab"), [10]),
        (StartsWith(("a",), "b"), []),
        (StartsWith(("a",), "é\0["), [11]),
        (Contains(("a",), "\0[.*"), [11]),
        (Contains(("a",), "\0[.x"), []),
        (And((eq(1), eq(True))), []),
        (And((eq(True), eq(1))), []),
        (And((eq(1), eq("1"))), []),
        (And((Compare(("a",), "gte", 0), Compare(("a",), "lt", 2))), [3, 4]),
        (And((Compare(("a",), "gte", 2), Compare(("a",), "gte", 0))), []),
        (And((eq(1), And((Exists(("a",)), Not(eq(2)))))), [3, 4]),
        (EVERYTHING, list(range(12))),
        (Or(()), []),
    ],
)
def test_values_are_compared_within_their_class_and_lists_are_not_looked_into(
    collection: Any, condition: Condition, expected: list[int]
) -> None:
    collection.delete_many({})
    collection.insert_many([{"_id": id, "state": state} for id, state in enumerate(STATES)])
    assert [id for id, state in enumerate(STATES) if matches(condition, state)] == expected
    assert found(collection, condition) == expected


@pytest.mark.parametrize(
    ("operator", "value", "path"),
    [("eq", 1, "a"), ("eq", None, "a"), ("eq", True, "a"), ("gte", 0, "a"), ("lt", "2", "a"), ("eq", 2, "a.b")],
)
def test_a_scalar_comparison_is_the_same_where_no_state_has_a_list(
    collection: Any, operator: Any, value: Any, path: str
) -> None:
    states = [state for state in STATES if not isinstance(state.get("a"), list)]
    collection.delete_many({})
    collection.insert_many([{"_id": id, "state": state} for id, state in enumerate(states)])
    condition = Compare(tuple(path.split(".")), operator, value, scalar=True)

    assert compile_condition(condition).keys() == {f"state.{path}"}
    assert found(collection, condition) == found(collection, msgspec.structs.replace(condition, scalar=False))
    assert found(collection, condition) == [id for id, state in enumerate(states) if matches(condition, state)]


@pytest.mark.parametrize("name", ["", "a.b", "$a", "a$", "$where", "a\0"])
def test_a_name_that_mongodb_would_read_as_more_than_one_is_refused(name: str) -> None:
    for condition in (eq(1, name), eq(1, "a", name), Exists((name, "a")), Text(((name,),), "a")):
        with pytest.raises(ValueError):
            compile_condition(condition)


@pytest.mark.parametrize("value", [None, True, [1], {"$gt": 1}, b"a", float("nan")])
def test_what_has_no_order_is_not_ordered(value: Any) -> None:
    with pytest.raises(TypeError):
        Compare(("a",), "gt", value)


@pytest.mark.parametrize("value", [[1], {"$gt": ""}, b"a", float("inf")])
def test_only_a_scalar_is_compared(value: Any) -> None:
    for make in (
        lambda: eq(value),
        lambda: OneOf(("a",), (1, value)),
        lambda: Contains(("a",), value),
        lambda: Includes(("a",), value),
    ):
        with pytest.raises(TypeError):
            make()
