"""The syntax of request headers and cursors, as laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from services.http_gateway.http import headers
from services.http_gateway.object_lists import Position, decode_cursor, encode_cursor

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=256)
TAG = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'), max_size=20)

T = TypeVar("T")


def attempt(read: Callable[[str], T], text: str) -> T | Failure:
    try:
        return read(text)
    except Failure as failure:
        return failure


@given(PRINTABLE.filter(lambda key: key == key.strip()))
def test_every_key_survives_quoting_by_rfc_8941(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert headers.parse_idempotency_key(quoted) == key


@given(st.text(max_size=300))
def test_any_text_is_a_key_or_is_refused_by_name(text: str) -> None:
    key = attempt(headers.parse_idempotency_key, text)

    if isinstance(key, Failure):
        assert (key.code, key.field) == ("bad-request", "Idempotency-Key")
    else:
        assert 0 < len(key) <= 256
        assert key.isascii()
        assert key.isprintable()


@given(st.lists(st.tuples(st.booleans(), TAG), min_size=1, max_size=5))
def test_every_list_of_entity_tags_is_accepted_and_searched_weakly(tags: list[tuple[bool, str]]) -> None:
    value = ", ".join(f'W/"{tag}"' if weak else f'"{tag}"' for weak, tag in tags)

    assert headers.parse_entity_tags("If-Match", value) == value
    assert all(not headers.matches_none(value, f'"{tag}"') for _, tag in tags)
    assert headers.matches_none(value, '"\x7f"')


@given(st.text(max_size=50))
def test_any_text_is_entity_tags_or_is_refused_by_name(text: str) -> None:
    value = attempt(lambda text: headers.parse_entity_tags("If-Match", text), text)

    assert value == text if isinstance(value, str) else (value.code, value.field) == ("bad-request", "If-Match")


@given(st.integers(min_value=1, max_value=10**12))
def test_a_deadline_is_milliseconds(milliseconds: int) -> None:
    assert headers.parse_deadline(str(milliseconds)) == milliseconds / 1000


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "1e3", "0x1", "١", "9" * 30, "1_000", "--1"])
def test_other_text_is_no_deadline(text: str) -> None:
    with pytest.raises(Failure) as raised:
        headers.parse_deadline(text)

    assert (raised.value.code, raised.value.field) == ("bad-request", "Deadline")


@given(st.text(max_size=50), st.none() | st.text(max_size=200))
def test_a_cursor_leads_back_to_its_position(type: str, inner: str | None) -> None:
    position = Position(type, inner)

    assert decode_cursor(encode_cursor(position)) == position


@given(st.text(max_size=100))
def test_any_text_is_a_cursor_or_is_refused(text: str) -> None:
    position = attempt(decode_cursor, text)

    if isinstance(position, Failure):
        assert (position.code, position.field) == ("invalid", "cursor")
    else:
        assert encode_cursor(position) == text
