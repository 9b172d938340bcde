"""Rules of users: merge patches, addresses, and the administrator that remains."""

from __future__ import annotations

from typing import Any

import pytest

from aidevos.contracts.errors import Failure
from aidevos.security.emails import check_email
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.user_management.administrators import ID, TYPE, AdministratorsDO
from tests.kits import failure


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
