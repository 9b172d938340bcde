"""How many projects, API keys and collections one user may have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from aidevos import new_id
from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import SERVICE
from aidevos.work import holders
from services.api_gateway.service import service as api_gateway
from services.data_storage.service import service as data_storage
from tests.support import project_kits
from tests.support.kits import until
from tests.support.project_kits import give, user

LIMIT = 3


class Kind(NamedTuple):
    """A kind of objects that is bounded: how one is created and deleted, and its holder."""

    setting: str
    holder: str
    noun: str
    create: Callable[[ObjectKit, str, Principal], Awaitable[Any]]
    delete: Callable[[ObjectKit, str, Principal], Awaitable[Any]]


async def create_project(kit: ObjectKit, id: str, who: Principal) -> None:
    await kit.call("project", id, "create", name="p", caller=who)


async def create_key(kit: ObjectKit, id: str, who: Principal) -> None:
    await kit.call("api_key", id, "create", name="k", scopes=["data:read"], caller=who)


async def create_collection(kit: ObjectKit, id: str, who: Principal) -> None:
    await kit.call("collection", id, "configure", config={}, caller=who)


async def write_item(kit: ObjectKit, id: str, who: Principal) -> None:
    """Create a collection by its first item."""
    args = {"collection": id, "id": "first", "data": 1}
    await kit.call("item", item_object(id, "first"), "create", **args, caller=who)


def deleting(type: str, method: str) -> Callable[[ObjectKit, str, Principal], Awaitable[Any]]:
    async def delete(kit: ObjectKit, id: str, who: Principal) -> None:
        await kit.call(type, id, method, caller=who)

    return delete


KINDS = {
    "projects": Kind("max_projects", "project_holder", "projects", create_project, deleting("project", "delete")),
    "keys": Kind("max_keys", "key_holder", "API keys", create_key, deleting("api_key", "revoke")),
    "collections": Kind(
        "max_collections", "collection_holder", "collections", create_collection, deleting("collection", "delete")
    ),
    "collections by items": Kind(
        "max_collections", "collection_holder", "collections", write_item, deleting("collection", "delete")
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
async def kit(settings: Settings, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectKit]:
    monkeypatch.setattr(holders, "STEP", 2)
    limited = msgspec.structs.replace(settings, **{kind.setting: LIMIT})
    async with project_kits.kit_of(limited, api_gateway, data_storage) as kit:
        yield kit


def full(kind: Kind) -> str:
    return f"conflict: a user can have at most {LIMIT} {kind.noun}"


async def tried(kit: ObjectKit, kind: Kind, who: Principal) -> str:
    try:
        await kind.create(kit, new_id(), who)
    except Failure as refused:
        return f"{refused.code}: {refused.detail}"
    return "created"


async def test_of_many_at_once_as_many_are_created_as_there_may_be(kit: ObjectKit, kind: Kind) -> None:
    ada, bob = await user(kit, "ada"), await user(kit, "bob")

    outcomes = await asyncio.gather(*(tried(kit, kind, ada) for _ in range(3 * LIMIT)))

    assert sorted(outcomes) == [full(kind)] * 2 * LIMIT + ["created"] * LIMIT
    assert await tried(kit, kind, bob) == "created"


async def test_what_is_deleted_makes_room(kit: ObjectKit, kind: Kind) -> None:
    ada = await user(kit, "ada")
    ids = [new_id() for _ in range(LIMIT)]
    for id in ids:
        await kind.create(kit, id, ada)
    assert await tried(kit, kind, ada) == full(kind)

    await kind.delete(kit, ids[0], ada)
    await until(lambda: ids[0] not in kit.store.documents[kind.holder][ada.subject]["state"]["places"])

    assert [await tried(kit, kind, ada) for _ in range(2)] == ["created", full(kind)]


async def test_places_that_nothing_was_created_in_are_found_a_minute_later(kit: ObjectKit, kind: Kind) -> None:
    ada = await user(kit, "ada")
    await kind.create(kit, new_id(), ada)
    for _ in range(LIMIT - 1):
        await kit.call(kind.holder, ada.subject, "reserve", id=new_id(), caller=SERVICE)
    assert await tried(kit, kind, ada) == full(kind)

    kit.clock.advance(holders.SETTLED + 1)

    assert [await tried(kit, kind, ada) for _ in range(LIMIT)] == ["created"] * (LIMIT - 1) + [full(kind)]


async def test_what_was_there_before_its_holder_counts(kit: ObjectKit, kind: Kind) -> None:
    ada = await user(kit, "ada")
    for _ in range(LIMIT):
        await kind.create(kit, new_id(), ada)
    await kit.settle()
    kit.catalogue.drop_all()
    del kit.store.documents[kind.holder][ada.subject]

    assert await tried(kit, kind, ada) == full(kind)


@pytest.mark.parametrize("kind", [KINDS["projects"]], ids=["projects"])
async def test_a_project_counts_no_more_among_those_of_a_user_who_left_it(kit: ObjectKit, kind: Kind) -> None:
    ada, bob = await user(kit, "ada"), await user(kit, "bob")
    ids = [new_id() for _ in range(LIMIT)]
    for id in ids:
        await create_project(kit, id, ada)
        await give(kit, id, bob, "owner")
    assert await tried(kit, kind, ada) == full(kind)
    # What others have created doesn't count.
    assert await tried(kit, kind, bob) == "created"

    await kit.call("project", ids[0], "remove_member", user_id=ada.subject, caller=ada)
    await kit.settle()

    assert [await tried(kit, kind, ada) for _ in range(2)] == ["created", full(kind)]
    await kit.call("project", ids[0], "delete", caller=bob)
    await kit.settle()
    assert await tried(kit, kind, ada) == full(kind)


def test_a_holder_must_define_its_limit() -> None:
    class Unbounded(holders.Holder):
        held = noun = "things"

    with pytest.raises(TypeError, match="limit"):
        Unbounded("x", holders.HolderState())  # type: ignore[abstract]
