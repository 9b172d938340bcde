"""The text of API keys, and the permissions that scopes leave."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts.errors import Failure
from aidevos.contracts.subjects import new_id
from aidevos.security import api_keys, scopes

ids = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
HELD = frozenset({"data:read", "data:write", "counter:write"})


def make(id: str) -> api_keys.KeyText:
    return api_keys.make(id, secrets.token_bytes(32))


@given(ids)
def test_a_key_names_its_object_and_is_known_again(id: str) -> None:
    key = make(id)

    assert key.text.startswith("adk_")
    assert api_keys.parse(key.text) == key


def test_no_two_keys_of_one_object_are_alike() -> None:
    id = new_id()

    assert len({make(id).hashed for _ in range(100)}) == 100


@given(st.integers(4, 74), st.integers(1, 61))
def test_one_wrong_digit_is_noticed_without_a_look_up(place: int, change: int) -> None:
    text = make(new_id()).text
    digit = api_keys.DIGITS[(api_keys.DIGITS.index(text[place]) + change) % 62]

    with pytest.raises(Failure, match="API key"):
        api_keys.parse(text[:place] + digit + text[place + 1 :])


@pytest.mark.parametrize(
    "text",
    ["", "adk_", "xyz_" + "a" * 71, "adk_" + "z" * 71, pytest.param(secrets.token_hex(38), id="hexadecimal"), "adk_é"],
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Failure) as refused:
        api_keys.parse(text)

    assert refused.value.status == 401


def test_what_is_shown_of_a_key_is_short() -> None:
    key = make(new_id())

    assert len(key.hint) == 4
    assert key.hint in key.text


@pytest.mark.parametrize(
    ("asked", "whole", "narrowed"),
    [
        (["data:read"], {"data:read"}, set()),
        (["data:read:collection=orders"], set(), {("data:read", "collection", "orders")}),
        (["*"], set(HELD), set()),
        (["users:manage", "users:manage:id=a"], set(), set()),
        (["counter:write:id=clicks", "data:write"], {"data:write"}, {("counter:write", "id", "clicks")}),
        ([], set(), set()),
    ],
)
def test_scopes_allow_no_more_than_is_held(
    asked: list[str], whole: set[str], narrowed: set[tuple[str, str, str]]
) -> None:
    assert scopes.grant(asked, HELD) == (frozenset(whole), frozenset(narrowed))


def test_who_holds_everything_can_give_any_scope() -> None:
    assert scopes.grant(["users:manage"], frozenset({"*"})) == (frozenset({"users:manage"}), scopes.NOTHING)


@pytest.mark.parametrize(
    "scope", ["", "data", "data:", ":read", "Data:read", "data:read:", "data:read:x", "data:read:x=", "data:read:x=a b"]
)
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(Failure) as refused:
        scopes.parse(scope, field="scopes[0]")

    assert (refused.value.code, refused.value.field) == ("invalid", "scopes[0]")
