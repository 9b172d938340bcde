"""The records of tokens that `aidevos token` prints: what they hold, who may see and revoke them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos.contracts.subjects import new_id
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from tests.support.account_kits import kit_of, register
from tests.support.kits import failure

TYPE = "access_token"


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


async def record(kit: ObjectKit, subject: str = "cli") -> None:
    expires_at = kit.clock.now() + 900
    args = {"subject": subject, "roles": ["admin"], "permissions": ["x:y"], "expires_at": expires_at}
    await kit.call(TYPE, "t", "register", **args, caller=SERVICE)
    await kit.settle()


def logged(kit: ObjectKit) -> list[tuple[str, str]]:
    entries = [document["state"] for document in kit.store.documents["audit"].values()]
    return [(entry["action"], entry["target"]) for entry in entries if entry["action"].startswith("token.")]


async def resolved(kit: ObjectKit) -> Any:
    return await kit.call(TYPE, "t", "resolve", caller=SERVICE)


async def test_a_token_is_listed_without_its_text_until_it_is_revoked(kit: ObjectKit) -> None:
    await record(kit)
    (listed,) = (await kit.query(TYPE, "search", caller=ADMIN))["items"]
    grant = await resolved(kit)
    await kit.call(TYPE, "t", "revoke", caller=ADMIN)
    await kit.settle()

    assert set(listed) == {"id", "subject", "roles", "permissions", "created_at", "expires_at"}
    assert (listed["id"], listed["subject"], listed["roles"], listed["permissions"]) == ("t", "cli", ["admin"], ["x:y"])
    assert grant == {"roles": ["admin"], "version": None}
    assert (await failure(resolved(kit))).code == "not-found"
    assert (await kit.query(TYPE, "search", caller=ADMIN))["items"] == []
    assert (await failure(kit.call(TYPE, "t", "revoke", caller=ADMIN))).code == "not-found"
    assert sorted(logged(kit)) == [("token.issued", "t"), ("token.revoked", "t")]
    assert [event.subject for event in kit.bus.events if "access_token" in event.subject] == [
        "event.access_token.t.revoked"
    ]


async def test_a_record_is_written_once_and_only_by_a_service(kit: ObjectKit) -> None:
    args = {"subject": "eve", "roles": ["admin"], "permissions": [], "expires_at": 2e9}
    assert (await failure(kit.call(TYPE, "t", "register", **args, caller=ADMIN))).code == "forbidden"
    await record(kit)
    assert (await failure(kit.call(TYPE, "t", "register", **args, caller=SERVICE))).code == "exists"


async def test_a_token_for_a_user_follows_the_user(kit: ObjectKit) -> None:
    user = await register(kit, new_id())
    await record(kit, subject=user["id"])
    untouched = await resolved(kit)
    await kit.call("user", user["id"], "patch", patch={"full_name": "Ada L."}, caller=ADMIN)
    renamed = await resolved(kit)
    await kit.call("user", user["id"], "patch", patch={"roles": []}, caller=ADMIN)
    demoted = await resolved(kit)
    await kit.call("user", user["id"], "deactivate", caller=ADMIN)
    await kit.settle()

    assert untouched["roles"] == renamed["roles"] == ["admin"]
    assert demoted["roles"] == []
    assert demoted["version"] > renamed["version"] > untouched["version"]
    assert (await failure(resolved(kit))).code == "not-found"


async def test_a_record_goes_when_no_stored_tell_can_need_it(kit: ObjectKit, settings: Settings) -> None:
    await record(kit)
    kit.clock.advance(900 + settings.tell_age - 1)
    await kit.call(TYPE, "t", "expire", caller=SERVICE)
    kept = await resolved(kit)
    kit.clock.advance(1)
    await kit.call(TYPE, "t", "expire", caller=SERVICE)

    assert kept["roles"] == ["admin"]
    assert (await failure(resolved(kit))).code == "not-found"
