"""Collections that belong to projects: the members' permissions, and their end with the project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos import new_id
from aidevos.contracts.data import Rules, item_object
from aidevos.contracts.errors import Failure
from aidevos.durable.base.lookups import LIFE
from aidevos.projects import belongings
from aidevos.security.permissions import ANONYMOUS, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN
from services.data_storage.membership import resolve_rules
from services.data_storage.service import service as data_storage
from tests.support import project_kits
from tests.support.collection_kits import collection, configure, listed, outcomes
from tests.support.kits import crash, failure, until
from tests.support.project_kits import give, make, outcome, user

STEP = 2


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(belongings, "STEP", STEP)
    # No concurrent writers, so erased items stay erased at once.
    monkeypatch.setattr("services.data_storage.eraser.SETTLED", -1.0)
    monkeypatch.setattr("services.data_storage.eraser.PAUSE", 0.0)


def kit_of(settings: Settings, **options: Any) -> ObjectKit:
    return project_kits.kit_of(settings, data_storage, **options)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


@pytest.fixture
async def people(kit: ObjectKit) -> dict[str, Principal]:
    found = {name: await user(kit, name) for name in ("owner", "maintainer", "viewer", "stranger")}
    return found | {"nobody": ANONYMOUS}


@pytest.fixture
async def project(kit: ObjectKit, people: dict[str, Principal]) -> str:
    id = await make(kit, people["owner"])
    for role in ("maintainer", "viewer"):
        await give(kit, id, people[role], role)
    return id


LEADS = {
    "config": "done",
    "find": "1",
    "read": "done",
    "create": "done",
    "update": "done",
    "administer": "precondition-failed",
}
READS = LEADS | {"create": "forbidden", "update": "forbidden", "administer": "forbidden"}
NOTHING = dict.fromkeys(LEADS, "not-found")


async def test_members_do_in_a_projects_collection_what_their_role_says_and_others_see_none(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    for name, expected in {
        "owner": LEADS,
        "maintainer": LEADS,
        "viewer": READS,
        "stranger": NOTHING,
        "nobody": NOTHING,
    }.items():
        place = await collection(kit, project, people["maintainer"])
        assert await outcomes(kit, place, people[name]) == expected, name
        assert await listed(kit, people[name]) == ([place] if expected is not NOTHING else []), name
        await kit.call("collection", place, "delete")


async def test_rules_count_among_members_only(kit: ObjectKit, people: dict[str, Principal], project: str) -> None:
    place = await collection(
        kit, project, people["owner"], read="public", create="authenticated", update="public", delete="role:none"
    )
    item = item_object(place, "first")

    assert await outcomes(kit, place, people["viewer"]) == READS | {"create": "done", "update": "done"}
    assert await outcomes(kit, place, people["stranger"]) == await outcomes(kit, place, people["nobody"]) == NOTHING
    assert await outcome(kit, "item", item, "delete", {}, people["owner"]) == "forbidden"
    assert await listed(kit, people["stranger"]) == await listed(kit, people["nobody"]) == []


@pytest.mark.parametrize(
    ("role", "meant"),
    [
        ("viewer", {"read": ["authenticated"], "create": [], "update": ["authenticated"], "delete": ["role:a"]}),
        (
            "maintainer",
            {
                "read": ["authenticated"],
                "create": ["authenticated"],
                "update": ["authenticated"],
                "delete": ["authenticated", "role:a"],
            },
        ),
    ],
)
def test_what_is_for_the_owner_is_for_those_who_lead_the_project(role: Any, meant: dict[str, Any]) -> None:
    rules = Rules(read="owner", create="owner", update="public", delete=["owner", "role:a"])

    assert resolve_rules(role, rules) == Rules(**meant)


async def test_a_credential_that_may_read_no_data_reads_none_in_a_project(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    place = await collection(kit, project, people["owner"], read="public")
    bare = Principal(people["owner"].subject, (), frozenset({"data:write"}))

    assert await outcome(kit, "item", item_object(place, "first"), "read", {}, bare) == "not-found"


async def test_who_has_made_a_collection_has_no_more_of_it_than_its_role_within_a_second(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    maker, owner = people["maintainer"], people["owner"]
    place = await collection(kit, project, maker)
    assert await outcomes(kit, place, maker) == LEADS

    await give(kit, project, maker, "viewer", by=owner)
    await asyncio.sleep(LIFE)
    assert await outcomes(kit, place, maker) == READS | {"find": "2"}
    await kit.call("project", project, "remove_member", user_id=maker.subject, caller=owner)
    await asyncio.sleep(LIFE)
    assert await outcomes(kit, place, maker) == NOTHING
    await give(kit, project, maker, "owner", by=owner)
    assert (await outcomes(kit, place, maker))["read"] == "done"


async def test_a_collection_comes_into_a_project_and_leaves_it_by_those_who_lead_on_both_sides(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    maintainer, viewer, stranger = people["maintainer"], people["viewer"], people["stranger"]
    other = await make(kit, stranger)
    own = {name: await collection(kit, None, people[name]) for name in ("maintainer", "viewer", "stranger")}

    async def refused(name: str, caller: Principal, into: str | None) -> tuple[str, str | None]:
        raised = await failure(configure(kit, name, caller, project=into))
        return raised.code, raised.field

    assert await refused(own["viewer"], viewer, project) == ("forbidden", None)
    assert await refused(own["stranger"], stranger, project) == ("invalid", "args.config.project")
    assert await refused(own["stranger"], stranger, new_id()) == ("invalid", "args.config.project")
    assert await refused(new_id(), viewer, project) == ("forbidden", None)
    shown = await configure(kit, own["maintainer"], maintainer, project=project)
    assert shown["project"] == project
    assert await outcome(kit, "collection", own["maintainer"], "config", {}, viewer) == "done"
    assert await refused(own["maintainer"], viewer, None) == ("forbidden", None)
    assert await refused(own["maintainer"], maintainer, other) == ("invalid", "args.config.project")
    await give(kit, other, maintainer, "maintainer", by=stranger)
    await configure(kit, own["maintainer"], maintainer, project=other)
    assert await outcome(kit, "collection", own["maintainer"], "config", {}, viewer) == "not-found"
    assert await outcome(kit, "collection", own["maintainer"], "config", {}, stranger) == "done"
    await configure(kit, own["maintainer"], stranger)
    assert await outcome(kit, "collection", own["maintainer"], "config", {}, stranger) == "not-found"
    assert await outcome(kit, "collection", own["maintainer"], "config", {}, maintainer) == "done"


async def test_a_list_of_collections_is_narrowed_to_a_project(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    owner = people["owner"]
    second = await make(kit, owner)
    inside = sorted([await collection(kit, project, owner), await collection(kit, project, owner)])
    elsewhere = await collection(kit, second, owner)
    own = await collection(kit, None, owner)

    assert await listed(kit, owner) == sorted([*inside, elsewhere, own])
    assert await listed(kit, owner, project=project) == await listed(kit, ADMIN, project=project) == inside
    assert await listed(kit, people["viewer"]) == await listed(kit, people["viewer"], project=project) == inside
    assert await listed(kit, people["viewer"], project=second) == []
    assert await listed(kit, people["stranger"], project=project) == []


async def test_a_projects_collections_and_their_items_go_with_it_and_others_stay(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    owner = people["owner"]
    for _ in range(2 * STEP + 1):
        await collection(kit, project, owner)
    own = await collection(kit, None, owner)

    deletion = await kit.call("project", project, "delete", caller=owner)
    await kit.settle()

    assert deletion["removes"] == {"tasks": 0, "collections": 2 * STEP + 1, "objects": 0}
    assert there(kit, "collection") == [own]
    assert len(there(kit, "item")) == 1
    assert kit.store.documents["project"][project]["state"]["status"] == "ended"


def there(kit: ObjectKit, type: str) -> list[str]:
    return [id for id, document in kit.store.documents[type].items() if document.get("deleted") is None]


@pytest.mark.parametrize("commits", range(1, 9))
async def test_a_deletion_that_dies_anywhere_goes_on(settings: Settings, commits: int) -> None:
    async with kit_of(settings) as kit:
        owner = await user(kit, "owner")
        project = await make(kit, owner)
        for _ in range(STEP + 1):
            await collection(kit, project, owner)
        await kit.settle()
        before = kit.store.commits
        deleting = asyncio.create_task(kit.call("project", project, "delete", caller=owner))
        await until(lambda: kit.store.commits >= before + commits)
        await crash(kit)
        deleting.cancel()
        await asyncio.gather(deleting, return_exceptions=True)

    async with kit_of(settings, store=kit.store) as successor:
        await successor.lifecycle.scan()
        await successor.settle()

        assert there(successor, "collection") == there(successor, "item") == []
        assert successor.store.documents["project"][project]["state"]["status"] == "ended"


async def test_a_collection_that_comes_as_its_project_ends_goes_too(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    owner = people["owner"]
    await collection(kit, project, owner)
    await kit.call("project", project, "delete", caller=owner)
    await kit.settle()

    # This process still has its maker's role cached.
    late = await collection(kit, project, owner)
    await until(lambda: late not in there(kit, "collection"))
    await kit.settle()

    assert there(kit, "collection") == there(kit, "item") == []


async def test_a_project_ends_though_a_service_is_away_and_waits_for_it(
    kit: ObjectKit, people: dict[str, Principal], project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await collection(kit, project, people["owner"])
    ask, away = kit.request, True

    async def request(subject: str, payload: bytes, **options: Any) -> bytes:
        if away and subject.startswith("query.collection."):
            raise Failure("unavailable", "nobody serves the type")
        return await ask(subject, payload, **options)

    monkeypatch.setattr(kit, "request", request)

    deletion = await kit.call("project", project, "delete", caller=people["owner"])
    refused = await outcome(kit, "project", project, "read", {}, people["owner"])
    away = False
    await kit.settle()

    assert deletion["removes"] == {"tasks": 0, "collections": None, "objects": 0}
    assert refused == "not-found"
    assert there(kit, "collection") == []
