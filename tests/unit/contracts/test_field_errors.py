"""All errors of a refused body, over both decoders that refuse one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from aidevos.contracts import field_errors
from aidevos.contracts.errors import Failure
from aidevos.durable.objects.schema import Schema
from services.http_gateway.http import bodies
from tests.support.kits import examples


class Place(msgspec.Struct):
    x: int
    y: Annotated[int, Meta(ge=0)] = 0


class Body(msgspec.Struct, forbid_unknown_fields=True):
    by: int
    at: datetime
    name: Annotated[str, Meta(min_length=2)]
    places: Annotated[list[Place], Meta(max_length=3)] = []
    named: dict[str, Place] = {}
    only: Place | None = None
    free: Any = None


class Named(msgspec.Struct):
    limits: dict[Annotated[str, Meta(pattern="^[a-z]+$")], int]


class Patch(msgspec.Struct):
    id: int
    data: msgspec.Raw


GOOD: dict[str, Any] = {"by": 1, "at": "2026-11-30T00:00:00Z", "name": "ab", "free": {"any": [None]}}
_schema: Schema[Body] = Schema(Body, "args")


def of_host(body: bytes) -> Body:
    return _schema.decode(body, None)


def of_gateway(body: bytes) -> Body:
    return bodies.decode(msgspec.json.Decoder(Body), body, "body")


BOTH = pytest.mark.parametrize("decode", [of_host, of_gateway])


def refused(decode: Callable[[bytes], Body], body: bytes) -> Failure:
    with pytest.raises(Failure) as found:
        decode(body)
    return found.value


@BOTH
def test_each_missing_unknown_and_wrong_field_is_named(decode: Callable[[bytes], Body]) -> None:
    body = {
        "by": "x",
        "name": "a",
        "places": [{"x": 1}, {"y": -1}],
        "named": {"home": {"x": None}},
        "only": {"x": 1.5},
        "more": 1,
    }

    failure = refused(decode, msgspec.json.encode(body))

    prefix = "args." if decode is of_host else ""
    fields = ["by", "at", "name", "places[1].x", "places[1].y", "named.home.x", "only.x", "more"]
    assert [error.field for error in failure.errors or []] == [prefix + field for field in fields]
    assert {error.field: error.detail for error in failure.errors or []}[f"{prefix}at"].endswith("required field `at`")
    assert failure.field in (f"{prefix}by", f"{prefix}more")
    assert Failure.decode(failure.encode()).errors == failure.errors


@BOTH
def test_what_holds_for_a_whole_list_is_told_if_its_entries_are_right(decode: Callable[[bytes], Body]) -> None:
    failure = refused(decode, msgspec.json.encode({**GOOD, "places": [{"x": 1}] * 4}))

    assert [error.detail for error in failure.errors or []] == ["Expected `array` of length <= 3"]


@BOTH
@pytest.mark.parametrize(
    "rest", [b", bad", b', "free": ' + b"[" * 5000, b', "free": "' + b"x" * field_errors.MAX_BYTES + b'"}']
)
def test_of_what_cannot_be_searched_the_first_error_is_told(decode: Callable[[bytes], Body], rest: bytes) -> None:
    failure = refused(decode, b'{"by": "x"' + rest)

    assert failure.status in (400, 422)
    assert len(failure.errors or [failure]) == 1


def test_a_part_that_is_passed_on_unread_is_no_error() -> None:
    with pytest.raises(Failure) as found:
        bodies.decode(msgspec.json.Decoder(Patch), b'{"id": "x", "data": {"any": [1]}}', "data")

    assert [error.field for error in found.value.errors or []] == ["id"]


def test_a_refused_key_is_an_error_of_its_map() -> None:
    with pytest.raises(Failure) as refused:
        bodies.decode(msgspec.json.Decoder(Named), '{"limits": {"Ä": 1}}'.encode(), "")

    assert refused.value.field == "limits"
    assert [error.field for error in refused.value.errors] == ["limits"]


def test_no_more_errors_are_told_than_the_bound() -> None:
    body = msgspec.json.encode({**GOOD, "named": {f"n{number}": {} for number in range(1000)}})

    assert len(refused(of_host, body).errors or []) == field_errors.MAX_ERRORS


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=3),
    max_leaves=6,
)


@given(body=st.dictionaries(st.sampled_from(list(Body.__struct_fields__)), values, max_size=6))
@examples(400)
@BOTH
def test_a_refusal_always_has_errors_and_its_field_is_among_them(
    decode: Callable[[bytes], Body], body: dict[str, Any]
) -> None:
    failure = refused(decode, msgspec.json.encode(body)) if set(GOOD) - {"free"} - set(body) else None

    if failure is not None and failure.code == "invalid":
        assert failure.field in [error.field for error in failure.errors or []]
