"""Valid filters, orders and field lists, and the refusal of everything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from aidevos.contracts.subjects import is_id
from aidevos.durable.store import codec
from aidevos.durable.store.conditions import EVERYTHING, Compare, Condition, matches
from aidevos.durable.store.mongo_filter import compile_condition
from services.data_storage import filters, values
from services.data_storage.filters import parse_fields, parse_filter, parse_sort, project, to_state_condition
from services.data_storage.paths import Field, split
from tests.support.injections import OBJECTS, TEXTS
from tests.support.kits import examples
from tests.support.servers import Servers

BOOKS: dict[str, Any] = {
    "a": {"name": "Ada", "price": 10, "tags": ["new", 1], "sold": True},
    "b": {"name": "Bob", "price": 20.5, "tags": [], "of": {"city": "Bern"}},
    "c": {"name": "adam", "price": None, "tags": "new and old", "or": 1, "a.b": 2},
    "d": {"price": "10", "$gt": 1, "": {"": 5}, "of": [{"city": "Bern"}]},
}


def found(filter: Any) -> str:
    condition = parse_filter(filter)
    return "".join(id for id, data in BOOKS.items() if matches(condition, data))


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "abcd"),
        ({"price": {"eq": 10}}, "a"),
        ({"price": {"eq": 10.0}}, "a"),
        ({"price": {"eq": None}}, "c"),
        ({"price": {"ne": 10}}, "bcd"),
        ({"price": {"gte": 10, "lt": 20.5}}, "a"),
        ({"price": {"gt": "1"}}, "d"),
        ({"price": {"in": [None, 20.5, "x"]}}, "bc"),
        ({"price": {"nin": [10, 20.5]}}, "cd"),
        ({"price": {"in": []}}, ""),
        ({"name": {"exists": False}}, "d"),
        ({"price": {"exists": True}}, "abcd"),
        ({"tags": {"contains": "new"}}, "ac"),
        ({"tags": {"contains": 1}}, "a"),
        ({"name": {"starts_with": "Ad"}}, "a"),
        ({"of.city": {"eq": "Bern"}}, "b"),
        ({"or": [{"price": {"eq": 10}}, {"name": {"eq": "Bob"}}]}, "ab"),
        ({"and": [{"name": {"gte": "B"}}, {"price": {"gt": 0}}]}, "b"),
        ({"not": {"price": {"eq": 10}}}, "bcd"),
        ({"name": {"gte": "B"}, "price": {"gt": 0}}, "b"),
        ({r"\or": {"eq": 1}}, "c"),
        ({r"a\.b": {"eq": 2}}, "c"),
        ({"$gt": {"eq": 1}}, "d"),
        ({".": {"eq": 5}}, "d"),
    ],
)
def test_filters_say_which_documents_are_found(filter: Any, expected: str) -> None:
    assert found(filter) == expected


def nested(levels: int) -> Any:
    filter: Any = {"a": {"eq": 1}}
    for _ in range(levels):
        filter = {"not": filter}
    return filter


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        ([], "filter"),
        ("a", "filter"),
        (None, "filter"),
        ({"price": 10}, "filter.price"),
        ({"price": {}}, "filter.price"),
        ({"price": [1]}, "filter.price"),
        ({"of": {"city": {"eq": "Bern"}}}, "filter.of.city"),
        ({"price": {"eq": 1, "like": "a"}}, "filter.price.like"),
        ({"price": {"$gt": 1}}, "filter.price.$gt"),
        ({"price": {"eq": [1]}}, "filter.price.eq"),
        ({"price": {"eq": {"a": 1}}}, "filter.price.eq"),
        ({"price": {"eq": 2**63}}, "filter.price.eq"),
        ({"price": {"eq": float("nan")}}, "filter.price.eq"),
        ({"price": {"eq": "\ud800"}}, "filter.price.eq"),
        ({"price": {"eq": b"a"}}, "filter.price.eq"),
        ({"price": {"gt": None}}, "filter.price.gt"),
        ({"price": {"lte": True}}, "filter.price.lte"),
        ({"price": {"in": 1}}, "filter.price.in"),
        ({"price": {"in": [1, [2]]}}, "filter.price.in[1]"),
        ({"price": {"nin": [0] * 101}}, "filter.price.nin"),
        ({"price": {"exists": 1}}, "filter.price.exists"),
        ({"price": {"contains": []}}, "filter.price.contains"),
        ({"name": {"starts_with": 1}}, "filter.name.starts_with"),
        ({"name": {"starts_with": "x" * 1025}}, "filter.name.starts_with"),
        ({"or": {}}, "filter.or"),
        ({"or": []}, "filter.or"),
        ({"and": [{"a": {"eq": 1}}, {"or": [{"b": 1}]}]}, "filter.and[1].or[0].b"),
        ({"not": [{}]}, "filter.not"),
        ({"$or": [{}]}, "filter.$or"),
        ({"$where": "1"}, "filter.$where"),
        ({"a\0": {"eq": 1}}, "filter.a\0"),
        ({"a\\": {"eq": 1}}, "filter.a\\"),
        ({1: {"eq": 1}}, "filter.1"),
        (nested(8), "filter" + ".not" * 8),
        ({"or": [{}] * 100}, "filter.or[99]"),
        ({f"a{number}": {"eq": 1} for number in range(100)}, "filter.a99.eq"),
    ],
)
def test_what_is_no_filter_is_refused_by_its_path(filter: Any, field: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_filter(filter)
    assert (refused.value.code, refused.value.status, refused.value.field) == ("invalid", 422, field)


@pytest.mark.parametrize("path", ["x" * 513, ".".join(["a"] * 65), "\ud800", "\\"])
def test_what_is_no_path_is_refused(path: str) -> None:
    for refuse in (lambda: parse_filter({path: {"eq": 1}}), lambda: parse_sort(path), lambda: parse_fields(path)):
        with pytest.raises(Failure) as refused:
            refuse()
        assert refused.value.status == 422


@pytest.mark.parametrize(
    ("path", "names"),
    [("a", ("a",)), ("a.b", ("a", "b")), (r"a\.b", ("a.b",)), (r"\\.a", ("\\", "a")), ("", ("",)), (".", ("", ""))],
)
def test_a_path_is_names_with_dots_between_them(path: str, names: tuple[str, ...]) -> None:
    assert split(path) == names


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), min_size=1))
def test_every_name_can_be_written_in_a_path_and_in_a_list(names: list[str]) -> None:
    escaped = ["".join(f"\\{character}" for character in name) for name in names[:32]]
    assert split(".".join(escaped)) == tuple(names[:32])
    assert parse_fields(",".join(f"{name}.a" for name in escaped)) == [(name, "a") for name in names[:32]]


def test_an_order_is_a_list_of_paths() -> None:
    assert parse_sort(r"-price,of.city,a\,b,\-c") == (
        Field(("price",), True),
        Field(("of", "city")),
        Field(("a,b",)),
        Field(("-c",)),
    )
    for wrong in ("", "a,,b", ",a", "a,-a", "a,b,c,d,e"):
        with pytest.raises(Failure) as refused:
            parse_sort(wrong)
        assert (refused.value.code, refused.value.field) == ("invalid", "sort")


def test_fields_show_what_stands_at_their_paths() -> None:
    data = {"a": 1, "b": {"c": [1, {"d": 2}], "d.e": 3, "f": {}}, "g": [{"c": 1}]}
    assert project(data, parse_fields("b.c,a")) == {"a": 1, "b": {"c": [1, {"d": 2}]}}
    assert project(data, parse_fields("b")) == {"b": data["b"]}
    assert project(data, parse_fields(r"b.d\.e,b.f.x,g.c,none")) == {"b": {"d.e": 3, "f": {}}}
    assert project(7, parse_fields("a")) == 7
    with pytest.raises(Failure):
        parse_fields(",".join(["a"] * 33))


@pytest.fixture(scope="module")
def collection(servers: Servers) -> Iterator[Any]:
    """Insert each book as an item's state, with other fields that no caller may query."""
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        states = client["test_filters"]["states"]
        states.insert_many(
            [
                {"_id": id, "state": codec.Encoded(codec.encode({"data": values.encode(data), "owner": "ada", "a": 1}))}
                for id, data in BOOKS.items()
            ]
        )
        yield states
        client.drop_database("test_filters")


def asked(collection: Any, condition: Condition) -> str:
    compiled = compile_condition(to_state_condition(condition, "data"))
    return "".join(sorted(found["_id"] for found in collection.find(compiled, projection=["_id"], max_time_ms=2000)))


NAMES = [*filters.OPERATORS, "and", "or", "not", "name", "$or", "of.city"]
OPERANDS: list[Any] = [*OBJECTS, *TEXTS]
SCALAR_OPERATORS = ["eq", "ne", "gt", "gte", "lt", "lte", "contains", "starts_with", "exists"]


@pytest.mark.parametrize("operator", [*SCALAR_OPERATORS, "in", "nin"])
def test_an_injected_operand_is_refused_or_means_itself(collection: Any, operator: str) -> None:
    for payload in OPERANDS:
        filter = {"name": {operator: [payload] if operator in ("in", "nin") else payload}}
        try:
            condition = parse_filter(filter)
        except Failure as failure:
            accepted = failure.status != 422 or not str(failure.field).startswith("filter.name")
        else:
            accepted = type(payload) is not str or asked(collection, condition) != found(filter)
        assert not accepted, payload


def test_an_injected_filter_is_refused(collection: Any) -> None:
    for payload in OBJECTS:
        for filter in (payload, {"or": [payload]}, {"not": payload}, {"name": payload}):
            with pytest.raises(Failure) as refused:
                parse_filter(filter)
            assert refused.value.status == 422


@pytest.mark.parametrize("prefix", ["", "of.", "$."])
def test_an_injected_name_is_a_name_and_nothing_else(collection: Any, prefix: str) -> None:
    for payload in TEXTS:
        for operator, operand in (("eq", 1), ("ne", 1), ("exists", True), ("contains", "a"), ("in", [1, None])):
            try:
                condition = parse_filter({prefix + payload: {operator: operand}})
            except Failure as failure:
                assert failure.status == 422 and ("\0" in payload or "\\" in payload or len(payload) > 500)  # noqa: PT017,PT018
            else:
                assert asked(collection, condition) == found({prefix + payload: {operator: operand}}), payload


def test_an_injected_order_or_list_of_fields_names_something_in_the_data_alone() -> None:
    for payload in TEXTS:
        for parse in (parse_sort, parse_fields):
            try:
                parse(payload)
            except Failure as failure:
                assert (failure.status, failure.field) in ((422, "sort"), (422, "fields"))  # noqa: PT017
    assert project(BOOKS["a"], parse_fields(r"_id,$owner,state\.owner,__class__")) == {}


@examples(100)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=2),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    )
)
def test_any_value_at_all_is_a_filter_or_refused_as_one(collection: Any, filter: Any) -> None:
    try:
        condition = parse_filter(filter)
    except Failure as failure:
        assert (failure.status, str(failure.field)[:6]) == (422, "filter")  # noqa: PT017
    else:
        assert asked(collection, condition) == found(filter)


@pytest.mark.parametrize("payload", TEXTS)
def test_an_injected_id_is_that_of_no_item(payload: str) -> None:
    for collection, id in (("books", payload), (payload, "a")):
        if not is_id(payload):
            with pytest.raises(Failure, match="this item doesn't exist"):
                item_object(collection, id)
        else:
            assert is_id(item_object(collection, id))


def test_no_filter_at_all_is_every_document() -> None:
    assert parse_filter({}) == EVERYTHING
    assert parse_filter({"a": {"eq": 1}}) == Compare(("a",), "eq", 1)
