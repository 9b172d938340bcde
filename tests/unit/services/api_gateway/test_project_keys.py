"""API keys that are valid in one project alone: their makers, their reach, and their end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aidevos import new_id
from aidevos.contracts.data import item_object
from aidevos.projects import belongings
from aidevos.security import api_keys
from aidevos.security.permissions import ROLES, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from services.api_gateway.service import service as api_gateway
from services.data_storage.service import service as data_storage
from services.objects.counter import Counter
from tests.support import project_kits
from tests.support.collection_kits import collection, create, found, listed, outcomes
from tests.support.kits import failure, until
from tests.support.project_kits import give, make, outcome, queue, user

STEP = 2


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belongings, "STEP", STEP)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with project_kits.kit_of(settings, data_storage, api_gateway, Counter) as kit:
        yield kit


@pytest.fixture
async def ada(kit: ObjectKit) -> Principal:
    return await user(kit, "ada")


async def key(kit: ObjectKit, caller: Principal, **args: Any) -> Any:
    body = {"name": "ci", "scopes": ["data:read"], **args}
    return await kit.call("api_key", new_id(), "create", **body, caller=caller)


def confined(owner: Principal, project: str, *permissions: str) -> Principal:
    """Return a caller with a key of the owner's that is valid in the project alone."""
    granted = frozenset(permissions) or owner.permissions
    return msgspec.structs.replace(owner, permissions=granted, key="k", project=project)


async def resolve(kit: ObjectKit, made: Any) -> Any:
    hashed = api_keys.parse(made["key"]).hashed
    return await kit.call("api_key", made["id"], "resolve", hashed=hashed, caller=SERVICE)


async def test_keys_for_a_project_are_made_by_those_who_lead_it(kit: ObjectKit, ada: Principal) -> None:
    project, bob = await make(kit, ada), await user(kit, "bob")

    made = await key(kit, ada, project=project)
    stranger = await failure(key(kit, bob, project=project))
    await give(kit, project, bob, "viewer")
    viewer = await failure(key(kit, bob, project=project))
    moved = await failure(kit.call("api_key", made["id"], "patch", patch={"project": new_id()}, caller=ada))

    assert (await resolve(kit, made))["project"] == project
    assert (await kit.call("api_key", made["id"], "read", caller=ada))["project"] == project
    assert (stranger.code, stranger.field) == ("invalid", "args.project")
    assert viewer.code == "forbidden"
    assert (moved.code, moved.field) == ("invalid", "args.patch.project")


@pytest.mark.parametrize("owner", ["ada", "admin"])
async def test_a_key_of_a_project_reaches_nothing_else(kit: ObjectKit, ada: Principal, owner: str) -> None:
    project, other = await make(kit, ada), await make(kit, ada)
    inside, elsewhere, own = [await collection(kit, where, ada) for where in (project, other, None)]
    task, foreign = await queue(kit, project), await queue(kit, other)
    caller = confined(ada if owner == "ada" else ADMIN, project)
    new = {"collection": new_id(), "id": "i", "data": 1}

    assert {*(await outcomes(kit, inside, caller)).values()} == {"done", "1", "precondition-failed"}
    for place in (elsewhere, own):
        assert {*(await outcomes(kit, place, caller)).values()} == {"not-found"}
    assert await listed(kit, caller) == await listed(kit, caller, project=project) == [inside]
    assert await listed(kit, caller, project=other) == []
    for type, id, expected in (
        ("project", project, "done"),
        ("project", other, "not-found"),
        ("task", task, "done"),
        ("task", foreign, "not-found"),
        ("item", item_object(inside, "first"), "done"),
        ("item", item_object(own, "first"), "not-found"),
    ):
        assert await outcome(kit, type, id, "read", {}, caller) == expected, (type, id)
        assert await outcome(kit, type, id, "_read", {}, caller) == "forbidden"
    for type, id, method, args in (
        ("project", new_id(), "create", {"name": "p"}),
        ("api_key", new_id(), "create", {"name": "k", "scopes": ["data:read"]}),
        ("user", ada.subject, "read", {}),
        ("counter", "c", "increment", {}),
    ):
        assert await outcome(kit, type, id, method, args, caller) == "forbidden", type
    for type, search in (("project", "search"), ("api_key", "search"), ("user", "search")):
        assert (await failure(kit.query(type, search, caller=caller))).code == "forbidden"
    assert await outcome(kit, "item", item_object(new["collection"], "i"), "create", new, caller) == "not-found"
    making = {"project": other, "kind": "report"}
    assert await outcome(kit, "task", new_id(), "create", making, caller) == "not-found"


async def test_a_key_of_a_project_makes_collections_for_it_and_takes_none_out(kit: ObjectKit, ada: Principal) -> None:
    project, other = await make(kit, ada), await make(kit, ada)
    caller = confined(ada, project)

    async def put(name: str, **config: Any) -> str:
        return await outcome(kit, "collection", name, "configure", {"config": config}, caller)

    assert await put("mine") == await put("mine", project=other) == "not-found"
    assert await put("mine", project=project) == "done"
    assert await put("mine") == "forbidden"
    assert await put("mine", project=other) == "invalid"
    assert await put("mine", project=project, history=True) == "done"


async def test_a_key_has_no_more_than_its_scopes_and_its_owners_role(kit: ObjectKit, ada: Principal) -> None:
    project, bob = await make(kit, ada), await user(kit, "bob")
    await give(kit, project, bob, "viewer")
    place = await collection(kit, project, ada)
    reading = confined(ada, project, "data:read")
    viewing = confined(bob, project)
    carls = confined(Principal("carl", ("user",), ROLES["user"]), project)

    for caller in (reading, viewing):
        assert await found(kit, place, caller) == "1"
        change = await outcome(kit, "item", item_object(place, "first"), "replace", {"data": 2}, caller)
        assert change == "forbidden"
    assert await found(kit, place, carls) == "not-found"


async def test_keys_end_with_their_project_and_others_stay(kit: ObjectKit, ada: Principal) -> None:
    project = await make(kit, ada)
    made = [await key(kit, ada, project=project) for _ in range(2 * STEP + 1)]
    own = await key(kit, ada)

    deletion = await kit.call("project", project, "delete", caller=ada)
    await kit.settle()

    assert deletion["removes"] == {"tasks": 0, "collections": 0, "keys": 2 * STEP + 1, "objects": 0}
    for each in made:
        assert (await failure(resolve(kit, each))).code == "not-found"
        assert any(f"api_key.{each['id']}.changed" in subject for subject, *_ in kit.bus.events)
    assert (await resolve(kit, own))["owner"] == ada.subject


async def test_a_key_that_comes_as_its_project_ends_goes_too(kit: ObjectKit, ada: Principal) -> None:
    project = await make(kit, ada)
    await key(kit, ada, project=project)
    await kit.call("project", project, "delete", caller=ada)
    await until(lambda: kit.store.documents["project"][project]["state"]["status"] == "ended")

    # This process still has its maker's role cached.
    late = await key(kit, ada, project=project)
    await kit.settle()

    assert (await failure(resolve(kit, late))).code == "not-found"
    assert (await failure(create(kit, "c", "i", confined(ada, project)))).code == "not-found"
