"""Patterns for external values match the whole value, or not at all."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from aidevos import contracts
from aidevos.contracts.patterns import whole
from aidevos.contracts.users import RegisterBody
from aidevos.settings import Settings


def patterns(found: Any, seen: set[int]) -> Iterator[str]:
    """Yield every pattern in msgspec's description of types."""
    if id(found) in seen:
        return
    seen.add(id(found))
    if isinstance(found, inspect.StrType) and found.pattern is not None:
        yield found.pattern
    if isinstance(found, inspect.Type | inspect.Field):
        found = [getattr(found, name) for name in found.__struct_fields__]
    if isinstance(found, list | tuple):
        for inner in found:
            yield from patterns(inner, seen)


def contract_types() -> list[type]:
    modules = [
        importlib.import_module(f"{contracts.__name__}.{module.name}")
        for module in pkgutil.iter_modules(contracts.__path__)
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [type for type in found if issubclass(type, msgspec.Struct) and type is not msgspec.Struct]


def test_no_value_may_end_in_a_line_break() -> None:
    described = inspect.multi_type_info([*contract_types(), Settings])
    found = set(patterns(described, set()))

    assert len(found) > 5
    assert {pattern for pattern in found if not pattern.endswith(whole("")[1:])} == set()


def test_a_whole_pattern_takes_nothing_before_or_after() -> None:
    matches = re.compile(whole("[a-z]+")).search

    assert [bool(matches(text)) for text in ("abc", "abc\n", "\nabc", "abc\n\n", "ab\nc", "")] == [True] + [False] * 5


def test_a_username_that_looks_like_anothers_is_refused() -> None:
    body = {"username": "admin\n", "email": "a@example.org", "password": "wheelbarrow at noon"}

    with pytest.raises(msgspec.ValidationError, match="username"):
        msgspec.convert(body, RegisterBody)
