"""Arguments as `KEY=VALUE`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aidevos.cli.arguments import parse_arguments, read_object
from aidevos.cli.errors import CommandError

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ("Ada", "Ada"),
        ("", ""),
        ("a=b", "a=b"),
        ("08150", "08150"),
        ('"08"', "08"),
        ('["a", "b"]', ["a", "b"]),
        ("[a]", "[a]"),
        ("2026-11-30", "2026-11-30"),
    ],
)
def test_a_value_is_json_where_it_can_be_read_as_json_and_otherwise_text(text: str, value: Any) -> None:
    assert parse_arguments([f"key={text}"]) == {"key": value}


@settings(max_examples=50)
@given(values)
def test_every_value_can_be_written(value: Any) -> None:
    assert parse_arguments([f"key={json.dumps(value)}"]) == {"key": value}


@pytest.mark.parametrize("pairs", [["by"], ["=2"], ["by=1", "by=2"], ["by:=2"]])
def test_what_is_no_argument_is_named(pairs: list[str]) -> None:
    with pytest.raises(CommandError, match=pairs[-1].partition("=")[0] or "=2"):
        parse_arguments(pairs)


@pytest.mark.parametrize("text", ["", "[]", "{", "2", "\ud800", "[" * 100_000])
def test_what_is_no_json_object_is_refused_with_the_option_s_name(text: str) -> None:
    with pytest.raises(CommandError, match="--args"):
        read_object(text, "--args")
