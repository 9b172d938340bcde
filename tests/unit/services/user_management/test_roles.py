"""The rules of roles in one process: who may manage which, and a role deleted while it is assigned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from aidevos import new_id
from aidevos.security.keys import ensure_signing_key
from aidevos.security.permissions import ROLES, Principal
from aidevos.settings import load
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.user_management.service import install
from tests.support.account_kits import kit_of
from tests.support.kits import failure, quiet

OWN = {"roles:manage", "users:manage", "users:read", "data:read"}
CLERK = Principal("clerk", (), frozenset(OWN))


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[ObjectKit]:
    ensure_signing_key(tmp_path)
    settings = load({"AIDEVOS_ADMIN_PASSWORD": "wheelbarrow at noon"}, home=tmp_path)
    async with kit_of(settings) as kit:
        await install(ObjectCaller(kit), settings)  # type: ignore[arg-type]
        await kit.settle()
        yield kit


class ObjectCaller:
    """The kit as a service's client."""

    def __init__(self, kit: ObjectKit) -> None:
        self._kit = kit

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> Any:
        return await self._kit.call(type, id, method, **args, caller=SERVICE)


async def role(kit: ObjectKit, name: str, *permissions: str, caller: Principal | None = None) -> Any:
    options = {"caller": caller} if caller else {}
    return await kit.call("role", name, "create", permissions=permissions, **options)


async def user(kit: ObjectKit) -> str:
    id = new_id()
    name = f"u{id}"
    args = {"username": name, "email": f"{name}@example.org", "password": "wheelbarrow at noon"}
    await kit.call("user", id, "register", **args)
    return id


async def give(kit: ObjectKit, id: str, *roles: str, caller: Principal | None = None) -> Any:
    options = {"caller": caller} if caller else {}
    return await kit.call("user", id, "patch", patch={"roles": roles}, **options)


async def listed(kit: ObjectKit) -> list[str]:
    page = await kit.query("role", "search", caller=SERVICE)
    return [item["name"] for item in page["items"]]


async def test_built_in_roles_are_shown_as_they_are_and_stay(kit: ObjectKit) -> None:
    await role(kit, "clerk", "data:read")

    for name, permissions in ROLES.items():
        shown = await kit.call("role", name, "read")
        assert (shown["permissions"], shown["builtin"]) == (sorted(permissions), True)
        for method, args in (("replace", {"permissions": []}), ("remove", {})):
            assert (await failure(kit.call("role", name, method, **args))).code == "conflict"
        assert (await failure(role(kit, name))).code == "exists"
    assert await listed(kit) == ["admin", "clerk", "service", "user"]


@pytest.mark.parametrize("name", ["*", "admin", "data:read:collection=orders", "data", "Data:read", "data:", ":read"])
async def test_what_is_no_permission_of_a_role_is_refused_by_its_place(kit: ObjectKit, name: str) -> None:
    refused = await failure(role(kit, "clerk", "data:read", name))

    assert (refused.code, refused.field) == ("invalid", "args.permissions[1]")


@pytest.mark.parametrize("name", ["Clerk", "1st", "a" * 49, "-"])
async def test_what_is_no_name_of_a_role_is_refused(kit: ObjectKit, name: str) -> None:
    assert (await failure(role(kit, name))).code == "invalid"


async def test_nobody_makes_or_changes_a_role_beyond_their_own_permissions(kit: ObjectKit) -> None:
    await role(kit, "greater", "data:read", "audit:read")
    await role(kit, "lesser", "data:read", caller=CLERK)
    refused = [
        role(kit, "new", "data:read", "audit:read", caller=CLERK),
        kit.call("role", "lesser", "replace", permissions=["audit:read"], caller=CLERK),
        kit.call("role", "greater", "replace", permissions=["data:read"], caller=CLERK),
        kit.call("role", "greater", "remove", caller=CLERK),
    ]

    assert [(await failure(each)).code for each in refused] == ["forbidden"] * len(refused)
    assert (await kit.call("role", "lesser", "read", caller=CLERK))["permissions"] == ["data:read"]


async def test_nobody_gives_or_takes_a_role_beyond_their_own_permissions(kit: ObjectKit) -> None:
    await role(kit, "greater", "data:read", "audit:read")
    await role(kit, "lesser", "data:read")
    id, administrator = await user(kit), await user(kit)
    await give(kit, id, "user", "greater")
    await give(kit, administrator, "admin", "user")
    refused = [
        give(kit, id, "user", "greater", "admin", caller=CLERK),
        give(kit, id, "user", caller=CLERK),
        give(kit, administrator, "user", caller=CLERK),
        kit.call("user", administrator, "deactivate", caller=CLERK),
        give(kit, "clerk", "admin", caller=CLERK),
    ]

    assert [(await failure(each)).status for each in refused] == [403, 403, 403, 403, 404]
    given = await give(kit, id, "user", "greater", "lesser", caller=CLERK)
    assert given["roles"] == ["greater", "lesser", "user"]
    assert (await give(kit, id, "user", "greater", caller=CLERK))["roles"] == ["greater", "user"]


@pytest.mark.parametrize("name", ["nobody", "service"])
async def test_a_role_that_users_can_not_have_is_refused_by_its_place(kit: ObjectKit, name: str) -> None:
    refused = await failure(give(kit, await user(kit), "user", name))

    assert (refused.code, refused.field) == ("invalid", "args.patch.roles[1]")
    replaced = await failure(kit.call("user", await user(kit), "replace", roles=[name]))
    assert (replaced.code, replaced.field) == ("invalid", "args.roles[0]")


async def test_a_role_that_somebody_has_stays_until_it_is_taken(kit: ObjectKit) -> None:
    await role(kit, "clerk", "data:read")
    id = await user(kit)
    await give(kit, id, "user", "clerk")

    in_use = await failure(kit.call("role", "clerk", "remove"))
    await give(kit, id, "user")
    await kit.settle()
    await kit.call("role", "clerk", "remove")

    assert in_use.code == "conflict"
    assert (await failure(kit.call("role", "clerk", "read"))).code == "not-found"
    await kit.settle()
    assert "clerk" not in await listed(kit)


@pytest.mark.parametrize("made_anew", [False, True])
async def test_a_role_that_goes_while_it_is_given_is_taken_back(kit: ObjectKit, made_anew: bool) -> None:
    await role(kit, "clerk", "data:read")
    id = await user(kit)
    await kit.settle()
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    giving = asyncio.create_task(give(kit, id, "user", "clerk"))
    await quiet()

    await kit.call("role", "clerk", "remove")
    if made_anew:
        await role(kit, "clerk", "audit:read")
    gate.set()
    given = await giving
    await kit.settle()

    assert "clerk" in given["roles"]
    assert (await kit.call("user", id, "read"))["roles"] == ["user"]
    assert ("clerk" in await listed(kit)) is made_anew
    changes = [subject for subject, *_ in kit.bus.events if subject == f"event.user.{id}.access_changed"]
    assert len(changes) == 2


async def test_what_is_told_of_a_role_or_user_that_never_was_makes_none(kit: ObjectKit) -> None:
    for type, id, method, args in (
        ("role", "ghost", "hold", {"user": "nobody", "version": 1}),
        ("user", "nobody", "lose_role", {"role": "ghost"}),
    ):
        await kit.call(type, id, method, **args, caller=SERVICE)
    await kit.settle()

    assert (await failure(kit.call("role", "ghost", "_read"))).code == "not-found"
    assert (await failure(kit.call("user", "nobody", "_read"))).code == "not-found"
