"""Valid documents, and their unchanged return from the store."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.durable.store import codec
from services.data_storage import values
from tests.support.documents import AWKWARD_NAMES, documents, names
from tests.support.kits import examples
from tests.support.servers import Servers


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@examples(60)
@given(st.lists(documents, min_size=1, max_size=8))
def test_any_document_is_the_same_after_mongodb_had_it(data_collection: Any, data: list[Any]) -> None:
    for item in data:
        values.check(item)
    inserted = data_collection.insert_many([{"data": values.encode(item)} for item in data]).inserted_ids
    for item, id in zip(data, inserted, strict=True):
        found = data_collection.find_one({"_id": id})
        back = values.decode(codec.decode(found.raw)["data"])
        assert msgspec.json.encode(back) == msgspec.json.encode(item)


@pytest.fixture(scope="module")
def data_collection(servers: Servers) -> Any:
    """Return a collection whose documents are read as the store reads them."""
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        yield client["test_values"].get_collection("documents", codec_options=codec.RAW)  # type: ignore[arg-type]
        client.drop_database("test_values")


@pytest.mark.parametrize("path", [(name, *below) for name in AWKWARD_NAMES for below in ((), ("$a.",))])
def test_any_name_is_found_by_its_path_in_mongodb(data_collection: Any, path: tuple[str, ...]) -> None:
    document: Any = "here"
    for name in reversed(path):
        document = {name: document}
    id = data_collection.insert_one({"data": values.encode(document)}).inserted_id
    stored = ".".join(["data", *map(values.escape, path)])
    assert [found["_id"] for found in data_collection.find({stored: "here", "_id": id})] == [id]


@given(documents)
def test_any_document_is_the_same_in_the_json_of_what_is_stored(data: Any) -> None:
    assert values.to_json(values.encode(data)) == msgspec.Raw(msgspec.json.encode(data))


@given(names, names)
def test_names_are_told_apart_and_safe_after_escaping(one: str, other: str) -> None:
    escaped = values.escape(one)
    assert values.unescape(escaped) == one
    assert escaped
    assert not set(escaped) & set(".$")
    assert (escaped == values.escape(other)) == (one == other)


def test_numbers_keep_their_type_and_every_digit() -> None:
    text = b'{"b":1.0,"a":1,"wide":9007199254740993,"least":-9223372036854775808,"zero":-0.0,"b2":[1e2,true]}'
    data = msgspec.json.decode(text)
    values.check(data)
    back = values.decode(codec.decode(codec.encode({"data": values.encode(data)}))["data"])
    assert msgspec.json.encode(back) == text.replace(b"1e2", b"100.0")


def test_of_a_name_that_is_given_twice_the_last_value_counts_at_the_first_place() -> None:
    assert list(msgspec.json.decode(b'{"a":1,"b":2,"a":3}').items()) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"a": {"b": [0, 0, 0, 2**63]}}, "data.a.b[3]"),
        ([{"a": -(2**63) - 1}], "data[0].a"),
        (2**64, "data"),
        (math.nan, "data"),
        ({"a": [math.inf]}, "data.a[0]"),
        ({"a": {"b\0c": 1}}, "data.a.b\\x00c"),
        ({"a": {"\ud800": 1}}, "data.a.\\ud800"),
        ({"a": ["\udfff"]}, "data.a[0]"),
        ({"a": b"bytes"}, "data.a"),
        ({"a": {1: 2}}, "data.a.1"),
        ({"a": datetime(2020, 1, 1, tzinfo=UTC)}, "data.a"),
        (nested(65), "data" + ".a[0]" * 32),
        (nested(100_000), "data" + "[0].a" * 32),
        ("x" * values.MAX_SIZE, "data"),
        ({"a": [0] * 200_000}, "data"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else "",
)
def test_what_is_no_document_is_refused_by_its_path(data: Any, field: str) -> None:
    with pytest.raises(Failure) as refused:
        values.check(data)
    assert (refused.value.code, refused.value.status) == ("invalid", 422)
    assert (refused.value.field or "").removesuffix("…") == field[:256]


@pytest.mark.parametrize("data", [nested(64), "x" * (values.MAX_SIZE - 100), 2**63 - 1, None, True, [], {}, {"": {}}])
def test_what_is_just_within_the_bounds_is_a_document(data: Any) -> None:
    values.check(data)
    assert values.decode(codec.decode(codec.encode({"data": values.encode(data)}))["data"]) == data
