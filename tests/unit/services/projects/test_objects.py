"""Objects of users' own types that belong to projects: access, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aidevos import BaseDurableObject, anyone, command, new_id, query
from aidevos.security.permissions import ROLES, Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from services.objects.counter import Counter
from services.projects import project as projects
from tests.support import project_kits
from tests.support.kits import chosen, failure, until
from tests.support.project_kits import give, make, outcome, user

STEP = 2


class DoorState(msgspec.Struct):
    opened: int = 0


class EntryPoint(BaseDurableObject[DoorState], type="door"):
    @command(allow=anyone(), creates=True)
    async def open(self) -> int:
        self.state.opened += 1
        return self.state.opened

    @query(allow=anyone(), reentrant=True)
    async def count(self) -> int:
        return self.state.opened


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projects, "STEP", STEP)


def kit_of(settings: Settings, **options: Any) -> ObjectKit:
    return project_kits.kit_of(settings, Counter, EntryPoint, **options)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


def with_permissions(person: Principal, *permissions: str) -> Principal:
    """Return the person with additional permissions."""
    return msgspec.structs.replace(person, permissions=person.permissions | set(permissions))


@pytest.fixture
async def people(kit: ObjectKit) -> dict[str, Principal]:
    counts = ("counter:read", "counter:write", "objects:manage")
    return {
        name: with_permissions(await user(kit, name), *counts) for name in ("owner", "maintainer", "viewer", "stranger")
    }


@pytest.fixture
async def project(kit: ObjectKit, people: dict[str, Principal]) -> str:
    id = await make(kit, people["owner"])
    for role in ("maintainer", "viewer"):
        await give(kit, id, people[role], role)
    return id


async def counter(kit: ObjectKit, project: str | None, caller: Principal, type: str = "counter") -> str:
    id = new_id()
    await kit.call(type, id, "_create", **({"project": project} if project else {}), caller=caller)
    return id


async def outcomes(kit: ObjectKit, id: str, caller: Principal) -> tuple[str, ...]:
    """Try a query, a command, a management read and a replacement; return the outcomes."""
    calls = (("value", {}), ("increment", {}), ("_read", {}), ("_replace", {"state": {"value": 1}}))
    return tuple([await outcome(kit, "counter", id, method, args, caller) for method, args in calls])


async def listed(kit: ObjectKit, caller: Principal, **args: Any) -> list[str]:
    page = await kit.query("counter", "list", **args, caller=caller)
    return [item["id"] for item in page["items"]]


LEADS = ("done", "done", "done", "done")
READS = ("done", "forbidden", "done", "forbidden")
NOTHING = ("not-found",) * 4


async def test_members_act_by_role_and_by_permission_and_others_find_nothing(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    id = await counter(kit, project, people["maintainer"])
    bare = msgspec.structs.replace(people["owner"], permissions=ROLES["user"])
    manager = with_permissions(people["stranger"], "projects:manage")

    assert await outcomes(kit, id, people["owner"]) == await outcomes(kit, id, people["maintainer"]) == LEADS
    assert await outcomes(kit, id, people["viewer"]) == READS
    assert await outcomes(kit, id, people["stranger"]) == NOTHING
    assert await outcomes(kit, id, bare) == ("forbidden",) * 4
    assert (
        await outcomes(kit, id, manager) == await outcomes(kit, id, SERVICE) == await outcomes(kit, id, ADMIN) == LEADS
    )
    assert (await kit.call("counter", id, "_read"))["project"] == project


async def test_what_belongs_to_no_project_is_everybodys_as_before(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    id = await counter(kit, None, people["stranger"])

    assert await outcomes(kit, id, people["viewer"]) == await outcomes(kit, id, people["stranger"]) == LEADS
    assert "project" not in kit.store.documents["counter"][id]


async def test_objects_are_made_in_a_project_by_those_who_lead_it(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    refused = [
        await failure(counter(kit, where, people[name]))
        for name, where in (("viewer", project), ("stranger", project), ("owner", new_id()))
    ]

    assert [failure.code for failure in refused] == ["forbidden", "invalid", "invalid"]
    assert refused[1].field == "args.project"


async def test_a_refused_caller_keeps_nobody_waiting_and_copies_get_no_answer(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    id = await counter(kit, project, people["owner"])
    headers = chosen("once")
    first = await kit.call("counter", id, "increment", caller=people["owner"], headers=headers)
    await give(kit, project, people["stranger"], "owner")
    await kit.call("project", project, "remove_member", user_id=people["owner"].subject, caller=ADMIN)
    await until_refused(kit, id, people["owner"])

    copy = await failure(kit.call("counter", id, "increment", caller=people["owner"], headers=headers))

    assert (first, copy.code) == (1, "not-found")
    assert await kit.call("counter", id, "value", caller=people["stranger"]) == 1


async def until_refused(kit: ObjectKit, id: str, caller: Principal) -> None:
    async with asyncio.timeout(2.0):
        while await outcome(kit, "counter", id, "value", {}, caller) != "not-found":  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_project_is_kept_by_changes_of_state_and_by_another_process_and_goes_with_the_object(
    kit: ObjectKit, people: dict[str, Principal], project: str, settings: Settings
) -> None:
    id = await counter(kit, project, people["owner"])
    await kit.call("counter", id, "_replace", state={"value": 7})
    await kit.call("counter", id, "increment")
    await kit.settle()
    async with kit_of(settings, store=kit.store, clock=kit.clock) as successor:
        shown = await successor.call("counter", id, "_read")
        assert await outcomes(successor, id, people["stranger"]) == NOTHING
        await successor.call("counter", id, "_delete")
        again = await successor.call("counter", id, "_create", caller=people["stranger"])

        assert (shown["project"], shown["state"]["value"]) == (project, 8)
        assert again["project"] is None
        assert await outcomes(successor, id, people["stranger"]) == LEADS


async def test_lists_show_a_projects_objects_to_its_members_alone(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    inside = sorted([await counter(kit, project, people["owner"]) for _ in range(3)])
    free = await counter(kit, None, people["owner"])

    assert await listed(kit, people["viewer"], project=project) == await listed(kit, ADMIN, project=project) == inside
    assert await listed(kit, people["owner"]) == await listed(kit, people["stranger"]) == [free]
    assert await listed(kit, ADMIN) == sorted([*inside, free])
    assert (await failure(listed_of(kit, people["stranger"], project))).code == "not-found"


async def listed_of(kit: ObjectKit, caller: Principal, project: str) -> list[str]:
    return await listed(kit, caller, project=project)


async def test_a_key_of_a_project_reaches_its_objects_alone(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    other = await make(kit, people["owner"])
    inside, elsewhere, free = [await counter(kit, where, people["owner"]) for where in (project, other, None)]
    door, foreign = await counter(kit, project, people["owner"], "door"), await counter(kit, other, ADMIN, "door")

    for holder in (people["owner"], ADMIN):
        key = msgspec.structs.replace(holder, key="k", project=project)
        assert await outcomes(kit, inside, key) == LEADS
        for id in (elsewhere, free, new_id()):
            assert await outcomes(kit, id, key) == ("forbidden",) * 4
        assert await listed(kit, key) == [inside]
        assert await outcome(kit, "door", door, "open", {}, key) == "done"
        assert await outcome(kit, "door", foreign, "open", {}, key) == "forbidden"
        assert (await failure(counter(kit, None, key))).code == "forbidden"
        assert (await failure(counter(kit, other, key))).field == "args.project"
        assert await kit.call("counter", await counter(kit, project, key), "value", caller=key) == 0
        await kit.call("counter", (await listed(kit, key, limit=500))[-1], "_read", caller=key)
        for id in await listed(kit, key):
            if id != inside:
                await kit.call("counter", id, "_delete", caller=key)


async def test_a_forged_call_chain_opens_no_object_of_a_project(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    door = await counter(kit, project, ADMIN, "door")
    chain = {"Call-Chain": f"door:{door}"}

    refused = await failure(kit.call("door", door, "count", caller=people["stranger"], headers=chain))

    assert refused.code == "deadlock"


async def test_a_projects_objects_go_with_it_and_others_stay(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    ids = [await counter(kit, project, people["owner"]) for _ in range(2 * STEP + 1)]
    await counter(kit, project, people["owner"], "door")
    free = await counter(kit, None, people["owner"])
    await kit.settle()

    deletion = await kit.call("project", project, "delete", caller=people["owner"])
    await kit.settle()

    assert deletion["removes"] == {"tasks": 0, "objects": 2 * STEP + 2}
    left = {type: [id for id, found in kit.store.documents[type].items() if not found.get("deleted")] for type in TYPES}
    assert left == {"counter": [free], "door": []}
    assert len(ids) == 2 * STEP + 1
    assert kit.store.documents["project"][project]["state"]["status"] == "ended"


TYPES = ("counter", "door")


async def test_an_object_that_comes_as_its_project_ends_goes_too(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    ask, ended = kit.request, False

    async def request(subject: str, payload: bytes, **options: Any) -> bytes:
        nonlocal ended
        reply = await ask(subject, payload, **options)
        if subject == "query.project.role" and not ended:
            ended = True
            await kit.call("project", project, "delete", caller=ADMIN)
        return reply

    kit.request = request  # type: ignore[method-assign]
    id = await counter(kit, project, people["owner"])
    await until(lambda: kit.store.documents["counter"][id].get("deleted"))
    await kit.settle()

    assert (await failure(kit.call("counter", id, "_read"))).code == "not-found"


async def test_the_end_of_a_project_lets_others_be_that_have_its_objects_name(
    kit: ObjectKit, people: dict[str, Principal], project: str
) -> None:
    id = await counter(kit, None, people["owner"])

    await kit.call("counter", id, "_vanish", project=project, caller=SERVICE)
    refused = await outcome(kit, "counter", id, "_vanish", {"project": project}, ADMIN)

    assert await kit.call("counter", id, "value") == 0
    assert (refused, (await kit.call("counter", id, "_read"))["id"]) == ("forbidden", id)
