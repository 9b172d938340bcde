"""Rules of users: merge patches, addresses, and the administrator that remains."""

from __future__ import annotations

from typing import Any

import pytest

from aidevos.contracts.errors import Failure
from aidevos.security.emails import check_email
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.user_management.administrators import ID, TYPE, AdministratorsDO
from services.user_management.rules import merge_patch
from tests.kits import failure


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_are_those_of_rfc_7396(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_an_address_is_checked_by_its_form_alone() -> None:
    assert check_email("Ada@Example.ORG") == "Ada@example.org"
    assert check_email("ada@office.local") == "ada@office.local"
    for wrong in ("ada", "@example.org", "ada@", "a da@example.org", "ada@exa mple.org", "a@b@c", "ada@example.org\n"):
        with pytest.raises(Failure) as refused:
            check_email(wrong)
        assert (refused.value.code, refused.value.field) == ("invalid", "args.email")


async def test_the_last_administrator_can_not_leave() -> None:
    async with ObjectKit(AdministratorsDO) as kit:

        async def call(method: str, user: str) -> Any:
            return await kit.call(TYPE, ID, method, {"user": user}, caller=SERVICE)

        assert (await failure(call("leave", "a"))).code == "conflict"
        await call("join", "a")
        assert (await failure(call("leave", "a"))).code == "conflict"
        await call("join", "b")
        await call("leave", "a")
        await call("leave", "a")
        assert (await failure(call("leave", "b"))).code == "conflict"
