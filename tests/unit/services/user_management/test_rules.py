"""The rules of users: merge patches, addresses, and the last administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aidevos.contracts.errors import Failure
from aidevos.security.emails import check_email
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.user_management.administrators import ID, TYPE, AdministratorsDO
from tests.support.kits import failure


def test_an_address_is_checked_by_its_form_alone() -> None:
    assert check_email("Ada@Example.ORG") == "Ada@example.org"
    assert check_email("ada@office.local") == "ada@office.local"
    for wrong in ("ada", "@example.org", "ada@", "a da@example.org", "ada@exa mple.org", "a@b@c", "ada@example.org\n"):
        with pytest.raises(Failure) as refused:
            check_email(wrong)
        assert (refused.value.code, refused.value.field) == ("invalid", "args.email")


async def test_the_last_administrator_can_not_leave(kit: ObjectKit) -> None:
    assert (await failure(leave(kit, "a"))).code == "conflict"
    await join(kit, "a")
    assert (await failure(leave(kit, "a"))).code == "conflict"
    await join(kit, "b")
    await leave(kit, "a")
    await leave(kit, "a")
    assert (await failure(leave(kit, "b"))).code == "conflict"


async def test_what_an_administrator_has_told_before_it_left_brings_it_not_back(kit: ObjectKit) -> None:
    await join(kit, "a")
    await join(kit, "b")
    await leave(kit, "a", version=5)

    await join(kit, "a", version=4)
    assert (await failure(leave(kit, "b"))).code == "conflict"
    # The change that removed it was never committed, or it became an administrator again.
    await join(kit, "a", version=5)
    await leave(kit, "b")


@pytest.fixture
async def kit() -> AsyncIterator[ObjectKit]:
    async with ObjectKit(AdministratorsDO) as kit:
        yield kit


async def join(kit: ObjectKit, user: str, version: int = 1) -> None:
    await kit.call(TYPE, ID, "join", user=user, version=version, caller=SERVICE)


async def leave(kit: ObjectKit, user: str, version: int = 2) -> None:
    await kit.call(TYPE, ID, "leave", user=user, version=version, caller=SERVICE)
