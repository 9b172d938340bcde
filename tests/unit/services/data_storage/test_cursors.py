"""A cursor is valid for the query that returned it, and for nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from services.data_storage.cursors import Cursors, Position
from tests.support.injections import TEXTS

CURSORS = Cursors(b"s" * 32)
QUERY: tuple[Any, ...] = ("books", {"price": {"gte": 1}, "name": {"eq": "a"}}, "-price", "ada")
PLACE = Position("3", ["-price"], "\x06a\x00é", "an-id")
CURSOR = CURSORS.encode(PLACE, *QUERY)


def refused(cursor: str, *query: Any, cursors: Cursors = CURSORS) -> None:
    with pytest.raises(Failure) as refused:
        cursors.decode(cursor, *query, field="cursor")
    assert (refused.value.code, refused.value.status, refused.value.field) == ("invalid", 422, "cursor")


@pytest.mark.parametrize(
    "place", [PLACE, Position(None, [], None, "x" * 128), Position("0", ["a"], "\xff" * 9000, "a")]
)
def test_a_cursor_tells_its_query_where_it_was(place: Position) -> None:
    cursor = CURSORS.encode(place, *QUERY)
    assert CURSORS.decode(cursor, *QUERY) == place
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_the_order_of_names_in_the_filter_does_not_matter() -> None:
    assert CURSORS.decode(CURSOR, QUERY[0], {"name": {"eq": "a"}, "price": {"gte": 1}}, *QUERY[2:]) == PLACE


@pytest.mark.parametrize(
    "other",
    [
        ("films", *QUERY[1:]),
        (QUERY[0], {"price": {"gte": 2}, "name": {"eq": "a"}}, *QUERY[2:]),
        (*QUERY[:2], "price", "ada"),
        (*QUERY[:3], "bob"),
        QUERY[:3],
        (*QUERY, ""),
        ("book", "s", *QUERY[1:]),
        (),
    ],
)
def test_a_cursor_of_another_query_or_caller_is_refused(other: tuple[Any, ...]) -> None:
    refused(CURSOR, *other)


def test_a_cursor_of_another_fleet_is_refused() -> None:
    refused(CURSOR, *QUERY, cursors=Cursors(b"t" * 32))


@given(st.integers(0, len(base64.urlsafe_b64decode(CURSOR + "==")) - 1), st.integers(1, 255))
def test_a_cursor_of_which_one_bit_was_changed_is_refused(place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(CURSOR + "=="))
    raw[place] ^= change
    refused(base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), *QUERY)


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    refused(text, *QUERY)


@pytest.mark.parametrize("text", TEXTS)
def test_an_injected_cursor_is_refused(text: str) -> None:
    refused(text, *QUERY)
    refused(CURSOR + text, *QUERY)


def test_the_secret_is_the_fleets_and_stays(tmp_path: Path) -> None:
    cursor = Cursors.load(tmp_path).encode(PLACE, *QUERY)
    assert Cursors.load(tmp_path).decode(cursor, *QUERY) == PLACE
    refused(cursor, *QUERY, cursors=Cursors.load(tmp_path / "other"))
