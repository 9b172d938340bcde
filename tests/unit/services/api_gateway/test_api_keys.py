"""API keys in one process: expiry, overlap, use, and repeats across a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos import new_id
from aidevos.security import api_keys
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from services.api_gateway.service import service as api_gateway
from tests.support import account_kits
from tests.support.kits import chosen, failure

KEY = "0190" + "a" * 28


def kit_of(settings: Settings, **options: Any) -> ObjectKit:
    return account_kits.kit_of(settings, api_gateway, **options)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


async def owner(kit: ObjectKit) -> Principal:
    id = new_id()
    person = {"username": "ada", "email": "ada@example.org", "password": "wheelbarrow at noon"}
    await kit.call("user", id, "register", **person, caller=ANONYMOUS)
    return Principal(id, ("user",), frozenset({"keys:self", "data:read"}))


async def make(kit: ObjectKit, caller: Principal, **more: Any) -> str:
    args = {"name": "ci", "scopes": ["data:read"], **more}
    made = await kit.call("api_key", KEY, "create", **args, caller=caller, headers=chosen("r"))
    return str(made["key"])


async def resolve(kit: ObjectKit, text: str) -> Any:
    return await kit.call("api_key", KEY, "resolve", hashed=api_keys.parse(text).hashed, caller=SERVICE)


async def test_a_key_is_dead_when_it_has_expired(kit: ObjectKit) -> None:
    ends = kit.clock.now() + 100
    text = await make(kit, await owner(kit), expires_at=_rfc3339(ends))

    assert (await resolve(kit, text))["expires_at"] == pytest.approx(ends)
    kit.clock.advance(100)
    assert (await failure(resolve(kit, text))).code == "not-found"


@pytest.mark.parametrize("ends", ["2000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
async def test_a_key_expires_at_a_moment_that_can_come(kit: ObjectKit, ends: str) -> None:
    refused = await failure(make(kit, await owner(kit), expires_at=ends))
    assert (refused.code, refused.field) == ("invalid", "args.expires_at")


async def test_the_former_key_ends_with_the_overlap(kit: ObjectKit) -> None:
    ada = await owner(kit)
    former = await make(kit, ada)
    key = (await kit.call("api_key", KEY, "rotate", overlap=60, caller=ada))["key"]

    assert (await resolve(kit, former))["expires_at"] == pytest.approx(kit.clock.now() + 60)
    kit.clock.advance(60)
    assert (await failure(resolve(kit, former))).code == "not-found"
    assert (await resolve(kit, key))["owner"] == ada.subject


async def test_a_key_of_a_user_who_was_deactivated_is_dead_for_good(kit: ObjectKit) -> None:
    ada = await owner(kit)
    text = await make(kit, ada)
    await kit.call("user", ada.subject, "deactivate")

    assert (await failure(resolve(kit, text))).code == "not-found"
    await kit.settle()
    await kit.call("user", ada.subject, "activate")
    assert (await failure(resolve(kit, text))).code == "not-found"


async def test_a_repeat_after_a_crash_gets_the_same_key(settings: Settings, kit: ObjectKit) -> None:
    ada = await owner(kit)
    text = await make(kit, ada)
    rotated = await kit.call("api_key", KEY, "rotate", caller=ada, headers=chosen("s"))

    async with kit_of(settings, store=kit.store, clock=kit.clock) as successor:
        again = await successor.call("api_key", KEY, "rotate", caller=ada, headers=chosen("s"))
        assert again["key"] == rotated["key"] != text
        refused = await failure(make(successor, ada, name="another"))
        assert refused.code == "exists"


async def test_a_new_key_is_for_its_owner_after_a_login(kit: ObjectKit) -> None:
    ada = await owner(kit)
    await make(kit, ada)

    def key_with(*scopes: str, id: str = "another") -> Principal:
        return Principal(ada.subject, ada.roles, frozenset(scopes), key=id)

    async def rotate(caller: Principal) -> Any:
        return await kit.call("api_key", KEY, "rotate", caller=caller)

    manager = Principal("manager", ("manager",), frozenset({"keys:manage", "data:read"}))
    keys = (key_with("keys:self"), key_with("keys:self", "data:read"), key_with("keys:self", id=KEY))
    for other in (manager, *keys):
        assert (await failure(rotate(other))).code == "forbidden"
    assert (await rotate(ada))["key"]


async def test_a_use_is_written_now_and_then_and_is_no_new_version(kit: ObjectKit) -> None:
    ada = await owner(kit)
    await make(kit, ada)
    for seconds in (0, 10, 29, 31):
        await kit.call("api_key", KEY, "used", at=kit.clock.now() + seconds, caller=SERVICE)

    shown = await kit.call("api_key", KEY, "read", caller=ada)
    assert (shown["version"], shown["last_used_at"]) == (1, _rfc3339(kit.clock.now() + 31))


async def test_a_use_that_is_recorded_after_the_revocation_leaves_no_key(kit: ObjectKit) -> None:
    ada = await owner(kit)
    await make(kit, ada)
    operator = Principal("operator", (), frozenset({"keys:manage"}))

    await kit.call("api_key", KEY, "revoke", caller=ada)
    await kit.call("api_key", KEY, "used", at=kit.clock.now(), caller=SERVICE)

    assert (await kit.query("api_key", "search", caller=operator))["items"] == []


async def test_only_users_have_keys(kit: ObjectKit) -> None:
    stranger = Principal("admin", ("admin",), frozenset({"*"}))

    assert (await failure(make(kit, stranger))).code == "forbidden"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"scopes": ["data"]}, "args.scopes[0]"),
        ({"scopes": []}, "args.scopes"),
        ({"allowed_addresses": ["10.0.0.1/8"]}, "args.allowed_addresses[0]"),
        ({"limits": {"rate": 0}}, "args.limits.rate"),
        ({"name": ""}, "args.name"),
    ],
)
async def test_bad_input_is_named(kit: ObjectKit, more: dict[str, Any], field: str) -> None:
    refused = await failure(make(kit, await owner(kit), **more))

    assert (refused.code, refused.field) == ("invalid", field)


def _rfc3339(seconds: float) -> str:
    from aidevos.contracts.times import rfc3339, timestamp

    return str(rfc3339(timestamp(seconds)))
