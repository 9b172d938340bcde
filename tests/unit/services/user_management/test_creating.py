"""Users whom administrators create, also while registration is closed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from tests.support.account_kits import PASSWORD, kit_of, login, register, serve
from tests.support.kits import chosen, failure
from tests.support.mails import in_folder, token_in

ID = "0190" + "a" * 28
HELPER = Principal("helper", ("helper",), frozenset({"users:manage"}))
ADA = {"username": "ada", "email": "ada@example.org"}


@pytest.fixture
def closed(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, registration=False)


async def create(kit: ObjectKit, caller: Principal = ADMIN, id: str = ID, **args: Any) -> Any:
    return await kit.call("user", id, "create", **{**ADA, "password": PASSWORD, **args}, caller=caller)


async def test_a_created_user_logs_in_though_registration_is_closed(closed: Settings) -> None:
    async with kit_of(closed) as kit:
        assert (await failure(register(kit, ID))).code == "forbidden"

        made = await create(kit, HELPER, full_name="Ada Lovelace")

        assert (made["roles"], made["full_name"], made["email_verified"]) == (["user"], "Ada Lovelace", False)
        assert (await login(kit, "ada"))["user"]["id"] == ID
        assert (await failure(create(kit))).code == "exists"
        taken = await failure(create(kit, id="0190" + "b" * 28, email="other@example.org"))
        assert (taken.code, taken.field) == ("exists", "args.username")


async def test_nobody_gives_a_new_user_more_than_the_own_rights(closed: Settings) -> None:
    async with kit_of(closed) as kit:
        await serve(kit, "user", "chief", "install", {"username": "chief", "password": "short"})
        for role in ("user", "admin"):
            await serve(kit, "role", role, "install")

        assert (await failure(create(kit, HELPER, roles=["user", "admin"]))).code == "forbidden"
        assert (await failure(create(kit, Principal("ada", ("user",))))).code == "forbidden"
        unknown = await failure(create(kit, roles=["nothing"]))
        assert (unknown.code, unknown.field) == ("invalid", "args.roles[0]")
        # Nothing of the refused attempts is left.
        assert (await create(kit, roles=["admin", "user"]))["roles"] == ["admin", "user"]
        await kit.settle()
        assert await kit.call("user", "chief", "deactivate") is not None


async def test_an_invited_user_has_no_password_until_the_mailed_link_sets_one(closed: Settings) -> None:
    async with kit_of(closed) as kit:
        await create(kit, password=None)
        await kit.settle()

        (mail,) = in_folder(closed.home / "outbox", "ada@example.org")
        assert (await failure(login(kit, "ada", PASSWORD))).status == 401
        chosen_by_ada = {"token": token_in(mail), "new_password": PASSWORD}
        await kit.call("confirmation", ID, "reset_password", **chosen_by_ada, caller=ANONYMOUS)
        assert (await login(kit, "ada", PASSWORD))["user"]["email_verified"] is True


async def test_a_repeated_creation_makes_no_second_user_and_a_weak_password_none(closed: Settings) -> None:
    async with kit_of(closed) as kit:
        weak = await failure(create(kit, password="ada"))
        assert weak.field == "args.password"
        once = {"headers": chosen("once"), "caller": ADMIN}

        first = await kit.call("user", ID, "create", **ADA, password=PASSWORD, **once)

        assert await kit.call("user", ID, "create", **ADA, password=PASSWORD, **once) == first
