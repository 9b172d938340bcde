"""Projects in one process: permissions, the tasks' view of their project, and the end of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aidevos import new_id
from aidevos.durable.turns.environment import Limits
from aidevos.projects import belongings
from aidevos.security.permissions import Principal
from aidevos.settings import Settings
from aidevos.testing import ObjectKit
from aidevos.testing.kit import ADMIN, SERVICE
from services.projects import project
from tests.support.kits import chosen, crash, failure, until
from tests.support.project_kits import give, kit_of, make, outcome, queue, user

OPEN = asyncio.Event()
OPEN.set()
SECRET = "Zyzzyva"
MATCH = {"If-Match": '"99"'}


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "STEP", 2)
    monkeypatch.setattr(belongings, "STEP", 2)


@pytest.fixture
async def kit(settings: Settings) -> AsyncIterator[ObjectKit]:
    async with kit_of(settings) as kit:
        yield kit


@pytest.fixture
async def people(kit: ObjectKit) -> dict[str, Principal]:
    """Register a user for each role and one non-member; add an administrator and a caller without permissions."""
    names = ("owner", "maintainer", "viewer", "stranger")
    found = {name: await user(kit, name) for name in names}
    return found | {"admin": ADMIN, "bare": Principal(found["owner"].subject, ("user",))}


@pytest.fixture
async def shared(kit: ObjectKit, people: dict[str, Principal]) -> str:
    """Create a project with a member of each role."""
    id = await make(kit, people["owner"])
    for role in ("maintainer", "viewer"):
        await give(kit, id, people[role], role)
    return id


READS, CHANGES, OWNS = {"viewer", "maintainer", "owner", "admin"}, {"maintainer", "owner", "admin"}, {"owner", "admin"}


@pytest.mark.parametrize(
    ("method", "args", "who"),
    [
        ("read", {}, READS),
        ("members", {}, READS),
        ("tasks", {}, READS),
        ("replace", {"name": "q"}, CHANGES),
        ("patch", {"patch": {"name": "q"}}, CHANGES),
        ("set_member", {"user_id": "stranger", "role": "viewer"}, OWNS),
        ("remove_member", {"user_id": "viewer"}, OWNS | {"viewer"}),
        ("delete", {}, OWNS),
    ],
)
async def test_each_role_may_do_in_a_project_what_it_says(
    kit: ObjectKit, people: dict[str, Principal], method: str, args: dict[str, Any], who: set[str]
) -> None:
    args = {name: people[value].subject if name == "user_id" else value for name, value in args.items()}
    for name, caller in people.items():
        id = await make(kit, people["owner"])
        for role in ("maintainer", "viewer"):
            await give(kit, id, people[role], role)
        refused = "forbidden" if name in READS | {"bare"} else "not-found"
        expected = "done" if name in who else refused
        assert await outcome(kit, "project", id, method, args, caller) == expected, name


@pytest.mark.parametrize(
    ("method", "args", "who"),
    [
        ("read", {}, READS),
        ("patch", {"patch": {"priority": 3}}, CHANGES),
        ("cancel", {}, CHANGES),
        ("delete", {}, CHANGES),
    ],
)
async def test_each_role_may_do_to_a_task_what_it_says(
    kit: ObjectKit, people: dict[str, Principal], shared: str, method: str, args: dict[str, Any], who: set[str]
) -> None:
    for name, caller in people.items():
        id = await queue(kit, shared)
        refused = "forbidden" if name in READS | {"bare"} else "not-found"
        expected = "done" if name in who else refused
        assert await outcome(kit, "task", id, method, args, caller) == expected, name
        making = {"project": shared, "kind": "report"}
        expected = "done" if name in CHANGES else refused
        assert await outcome(kit, "task", new_id(), "create", making, caller) == expected, name


async def test_who_may_not_see_a_thing_is_told_nothing_of_its_version(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    id = await queue(kit, shared)

    for type, name, method, args in (
        ("project", shared, "patch", {"patch": {}}),
        ("project", shared, "delete", {}),
        ("project", shared, "remove_member", {"user_id": "x"}),
        ("task", id, "patch", {"patch": {}}),
        ("task", id, "cancel", {}),
        ("task", id, "delete", {}),
    ):
        assert await outcome(kit, type, name, method, args, people["stranger"], **MATCH) == "not-found"
        assert await outcome(kit, type, name, method, args, people["viewer"], **MATCH) == "forbidden"
        assert await outcome(kit, type, name, method, args, people["owner"], **MATCH) == "precondition-failed"


async def test_the_last_owner_stays_one(kit: ObjectKit, people: dict[str, Principal], shared: str) -> None:
    owner, other = people["owner"], people["maintainer"]
    leaving = ("remove_member", {"user_id": owner.subject})
    stepping_down = ("set_member", {"user_id": owner.subject, "role": "viewer"})

    for caller in (owner, ADMIN):
        for method, args in (leaving, stepping_down):
            assert await outcome(kit, "project", shared, method, args, caller) == "conflict"
    await give(kit, shared, other, "owner", by=owner)
    assert await outcome(kit, "project", shared, *leaving, owner) == "done"
    assert await outcome(kit, "project", shared, "read", {}, owner) == "not-found"
    assert (await kit.call("project", shared, "read", caller=other))["members"][other.subject] == "owner"


async def test_only_users_become_members(kit: ObjectKit, people: dict[str, Principal], shared: str) -> None:
    args = {"user_id": new_id(), "role": "viewer"}

    refused = await failure(kit.call("project", shared, "set_member", **args, caller=people["owner"]))

    assert (refused.code, refused.field) == ("invalid", "args.user_id")


async def test_a_task_follows_its_projects_members_at_once(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    id, stranger = await queue(kit, shared), people["stranger"]
    seen = []
    for role in ("viewer", "maintainer", None):
        seen.append(await outcome(kit, "task", id, "read", {}, stranger))
        if role is not None:
            await give(kit, shared, stranger, role)
    seen.append(await outcome(kit, "task", id, "patch", {"patch": {"priority": 1}}, stranger))
    await kit.call("project", shared, "remove_member", user_id=stranger.subject, caller=people["owner"])
    seen.append(await outcome(kit, "task", id, "read", {}, stranger))

    assert seen == ["not-found", "done", "done", "done", "not-found"]


async def test_everyone_finds_their_own_projects_and_administrators_all(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    owner, viewer, stranger = people["owner"], people["viewer"], people["stranger"]
    names = ["Beta", "Alpha", "Gamma 1.0"]
    for name in names:
        await make(kit, viewer, name)

    async def found(caller: Principal, **args: Any) -> list[str]:
        page = await kit.query("project", "search", **{"limit": 2, **args}, caller=caller)
        items = [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            return items
        return items + await found(caller, **args | {"cursor": page["next_cursor"]})

    assert sorted(await found(viewer)) == sorted([*names, "p"])
    assert await found(viewer, sort="name", q="A", member=viewer.subject) == ["Alpha", "Beta", "Gamma 1.0"]
    assert await found(viewer, sort="-name", q="a 1.") == ["Gamma 1.0"]
    assert await found(viewer, member=owner.subject) == ["p"]
    assert await found(owner) == ["p"]
    assert await found(stranger) == await found(stranger, member=viewer.subject) == []
    assert sorted(await found(ADMIN)) == sorted([*names, "p"])
    assert await found(ADMIN, member=owner.subject) == ["p"]


async def test_a_projects_tasks_are_listed_by_status_and_kind(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    ids = []
    for number in range(5):
        kit.clock.advance(1)
        ids.append(await queue(kit, shared, kind="report" if number % 2 else "mail"))
    await queue(kit, await make(kit, ADMIN))
    await kit.call("task", ids[1], "cancel")

    async def listed(**args: Any) -> list[str]:
        page = await kit.call("project", shared, "tasks", **{"limit": 2, **args}, caller=people["viewer"])
        items = [item["id"] for item in page["items"]]
        more = page["next_cursor"] and await listed(**args | {"cursor": page["next_cursor"]})
        return items + (more or [])

    assert await listed() == ids
    assert await listed(sort="-created_at") == ids[::-1]
    assert await listed(kind="report") == [ids[1], ids[3]]
    assert await listed(status="queued") == [ids[0], *ids[2:]]
    assert await listed(status="cancelled", kind="mail") == []
    refused = await failure(kit.call("project", shared, "tasks", cursor="x", caller=people["viewer"]))
    assert (refused.code, refused.field) == ("invalid", "args.cursor")


async def test_a_task_waits_is_cancelled_and_retried(kit: ObjectKit, people: dict[str, Principal], shared: str) -> None:
    made = await kit.call(
        "task",
        new_id(),
        "create",
        project=shared,
        kind="report",
        payload={"b": 1, "a.$": [1.0]},
        retry={"max_attempts": 5},
        caller=people["maintainer"],
    )
    id = made["id"]
    patched = await kit.call("task", id, "patch", patch={"payload": {"b": None}, "retry": {"backoff": 9}})
    early = await outcome(kit, "task", id, "retry", {}, ADMIN)
    kit.clock.advance(5)
    cancelled = await kit.call("task", id, "cancel")
    again = await outcome(kit, "task", id, "cancel", {}, ADMIN)
    late = await outcome(kit, "task", id, "patch", {"patch": {}}, ADMIN)
    retried = await kit.call("task", id, "retry")

    assert (made["status"], made["created_by"]) == ("queued", people["maintainer"].subject)
    assert list(made["payload"].items()) == [("b", 1), ("a.$", [1.0])]
    assert patched["payload"] == {"a.$": [1.0]}
    assert patched["retry"] == {"max_attempts": 5, "backoff": 9.0, "max_backoff": 300.0}
    assert patched["run_at"] == made["run_at"]
    assert (early, again, late) == ("conflict", "conflict", "conflict")
    assert cancelled["status"] == "cancelled"
    assert cancelled["finished_at"] > made["created_at"]
    assert (retried["status"], retried["finished_at"], retried["attempts"]) == ("queued", None, 0)
    assert retried["run_at"] > made["run_at"]
    assert await kit.call("task", id, "read") == retried


async def test_a_payload_is_judged_by_its_kind_when_it_is_changed_too(kit: ObjectKit, shared: str) -> None:
    id = await queue(kit, shared, kind="data.export", payload={"collection": "orders"})

    refused = await failure(kit.call("task", id, "patch", patch={"payload": {"collection": 7}}))

    assert (refused.code, refused.field) == ("invalid", "args.patch.payload.collection")
    assert (await kit.call("task", id, "read"))["payload"] == {"collection": "orders"}


async def test_what_happens_is_told_and_written_down_without_names(
    kit: ObjectKit, people: dict[str, Principal]
) -> None:
    owner, viewer = people["owner"], people["viewer"]
    id = await make(kit, owner, SECRET)
    work = await queue(kit, id, by=owner)
    await kit.call("task", work, "cancel", caller=owner)
    await kit.call("project", id, "patch", patch={"description": SECRET}, caller=owner)
    await give(kit, id, viewer, "viewer", by=owner)
    await kit.call("project", id, "delete", caller=owner)
    await kit.settle()

    told = [(subject, data) for subject, data, *_ in kit.bus.events if id in subject or work in subject]
    entries = [document["state"] for document in kit.store.documents["audit"].values()]
    audited = [(entry["action"], entry["actor"], entry["reason"]) for entry in entries if entry["target"] == id]
    assert {subject.split(".", 3)[3] for subject, _ in told if id in subject} == {
        "created",
        "updated",
        "member_changed",
        "deleted",
    }
    assert {subject.split(".", 3)[3] for subject, _ in told if work in subject} == {
        "created",
        "queued",
        "updated",
        "deleted",
    }
    assert SECRET not in repr(told)
    assert sorted(audited) == [
        ("project.deleted", owner.subject, ""),
        ("project.member_changed", owner.subject, f"{viewer.subject} viewer"),
    ]


def left(kit: ObjectKit, type: str) -> list[str]:
    """Return the IDs of the remaining objects of a type."""
    return [id for id, document in kit.store.documents.get(type, {}).items() if document.get("deleted") is None]


async def test_a_deleted_project_is_gone_at_once_with_all_it_had_and_for_good(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    owner = people["owner"]
    other = await make(kit, owner)
    kept = await queue(kit, other)
    work = [await queue(kit, shared) for _ in range(5)]
    await kit.settle()

    answer = await kit.call("project", shared, "delete", caller=owner)
    seen = [
        await outcome(kit, "project", shared, method, {}, who) for method in ("read", "tasks") for who in (owner, ADMIN)
    ]
    seen += [await outcome(kit, "task", work[0], "read", {}, who) for who in (owner, ADMIN)]
    pages = [await kit.query("project", "search", caller=who) for who in (owner, ADMIN)]
    await kit.settle()

    assert answer == {"id": shared, "status": "deleting", "removes": {"tasks": 5, "objects": 0}}
    assert set(seen) == {"not-found"}
    assert [[item["id"] for item in page["items"]] for page in pages] == [[other], [other]]
    assert left(kit, "task") == [kept]
    assert kit.store.documents["project"][shared]["state"]["name"] == ""
    assert await outcome(kit, "project", shared, "create", {"name": "again"}, people["stranger"]) == "exists"


COMMITS = 6


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(COMMITS))
async def test_a_deletion_that_dies_at_any_commit_is_finished_by_the_next_process(
    settings: Settings, commit: int, fate: str
) -> None:
    gate = asyncio.Event()
    async with kit_of(settings) as kit:
        owner = await user(kit, "owner")
        id = await make(kit, owner)
        for _ in range(5):
            await queue(kit, id, by=owner)
        await kit.settle()
        before = kit.store.commits
        kit.store.faults.extend([OPEN] * commit + [gate])
        deleting = asyncio.create_task(kit.call("project", id, "delete", caller=owner, headers=chosen("d")))
        await until(lambda: not kit.store.faults)
        if fate == "lost":
            kit.store.down = True
        gate.set()
        await until(lambda: kit.store.commits > before + commit)
        await crash(kit)
        await ended(deleting)
        kit.store.down = False

        async with kit_of(settings, store=kit.store, bus=kit.bus) as successor:
            answer = await successor.call("project", id, "delete", caller=owner, headers=chosen("d"))
            await successor.lifecycle.scan()
            await successor.settle()

            assert answer == {"id": id, "status": "deleting", "removes": {"tasks": 5, "objects": 0}}
            assert left(successor, "task") == []
            assert successor.store.documents["project"][id]["state"]["status"] == "ended"


async def test_a_page_of_a_search_is_as_large_as_an_answer_may_be_at_most(
    settings: Settings,
) -> None:
    limit = 20_000
    async with kit_of(settings, limits=Limits(answer=limit)) as kit:
        owner = await user(kit, "owner")
        id = await make(kit, owner)
        ids = []
        for _ in range(6):
            kit.clock.advance(1)
            ids.append(await queue(kit, id, by=owner, payload={"text": "x" * 7_000}))

        seen: list[str] = []
        cursor = None
        while len(seen) < len(ids):
            page = await kit.call("project", id, "tasks", cursor=cursor, caller=owner)
            assert 0 < len(page["items"]) < len(ids)
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]

    assert (seen, cursor) == (ids, None)


async def test_a_task_that_comes_after_the_end_of_its_project_goes_too(kit: ObjectKit, shared: str) -> None:
    await kit.settle()
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    making = asyncio.create_task(queue(kit, shared))
    await until(lambda: not kit.store.faults)

    await kit.call("project", shared, "delete")
    await until(lambda: kit.store.documents["project"][shared]["state"]["status"] == "ended")
    gate.set()
    await making
    await kit.settle()

    assert left(kit, "task") == []


async def ended(work: asyncio.Task[Any]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def erase(kit: ObjectKit, who: Principal) -> None:
    await kit.call("user", who.subject, "erase")


def departed(kit: ObjectKit, who: Principal) -> bool:
    """Return True if the last step of a user's departure is committed."""
    departure = kit.store.documents.get("departure", {}).get(who.subject, {})
    return departure.get("version", 0) > 0 and departure.get("deleted") is not None


async def test_an_erased_user_leaves_its_projects_and_takes_its_own_along(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    leaver, owner = people["maintainer"], people["owner"]
    own = [await make(kit, leaver, SECRET) for _ in range(3)]
    for id in own:
        await queue(kit, id, by=leaver, payload={"about": SECRET})
    await give(kit, own[0], owner, "maintainer", by=leaver)
    co_owned = await make(kit, leaver)
    await give(kit, co_owned, owner, "owner", by=leaver)
    await kit.settle()

    await erase(kit, leaver)
    await kit.settle()

    page = await kit.query("project", "search", caller=owner)
    members = {item["id"]: item["members"] for item in page["items"]}
    assert members == {
        shared: {owner.subject: "owner", people["viewer"].subject: "viewer"},
        co_owned: {owner.subject: "owner"},
    }
    assert left(kit, "task") == []
    assert left(kit, "departure") == []
    assert SECRET not in repr(kit.store.documents) + repr(vars(kit.store)["_archive"]) + repr(kit.bus.events)


# Commits after that of the erasure itself: tells to projects and their tasks, and their consequences.
ERASURE_COMMITS = 10


@pytest.mark.parametrize("fate", ["applied", "lost"])
@pytest.mark.parametrize("commit", range(1, ERASURE_COMMITS))
async def test_a_departure_that_dies_at_any_commit_is_finished_by_the_next_process(
    settings: Settings, commit: int, fate: str
) -> None:
    gate = asyncio.Event()
    async with kit_of(settings) as kit:
        leaver, owner = await user(kit, "leaver"), await user(kit, "owner")
        own = [await make(kit, leaver, SECRET) for _ in range(3)]
        shared = [await make(kit, owner) for _ in range(2)]
        for id in shared:
            await give(kit, id, leaver, "maintainer", by=owner)
        for id in own:
            await queue(kit, id, by=leaver)
        await kit.settle()
        before = kit.store.commits
        kit.store.faults.extend([OPEN] * commit + [gate])
        erasing = asyncio.create_task(erase(kit, leaver))
        await until(lambda: not kit.store.faults)
        if fate == "lost":
            kit.store.down = True
        gate.set()
        await until(lambda: kit.store.commits > before + commit)
        await crash(kit)
        await ended(erasing)
        kit.store.down = False

        async with kit_of(settings, store=kit.store, bus=kit.bus) as successor:
            await successor.lifecycle.scan()
            await successor.settle()

            for id in shared:
                assert (await successor.call("project", id, "read"))["members"] == {owner.subject: "owner"}
            states = [kit.store.documents["project"][id]["state"] for id in own]
            assert [state["status"] for state in states] == ["ended"] * 3
            assert left(successor, "task") == []
            assert SECRET not in repr(kit.store.documents)


@pytest.mark.parametrize("role", ["viewer", "owner"])
async def test_a_user_that_is_erased_while_it_becomes_a_member_is_none(
    kit: ObjectKit, people: dict[str, Principal], shared: str, role: str
) -> None:
    leaver = people["stranger"]
    await kit.settle()
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    giving = asyncio.create_task(give(kit, shared, leaver, role))
    await until(lambda: not kit.store.faults)

    await erase(kit, leaver)
    await until(lambda: departed(kit, leaver))
    gate.set()
    await giving
    await kit.settle()

    assert leaver.subject not in (await kit.call("project", shared, "read"))["members"]


async def test_a_project_that_an_erased_user_makes_meanwhile_ends(kit: ObjectKit, people: dict[str, Principal]) -> None:
    leaver = people["stranger"]
    await kit.settle()
    gate = asyncio.Event()
    kit.store.faults.append(gate)
    making = asyncio.create_task(make(kit, leaver, SECRET))
    await until(lambda: not kit.store.faults)

    await erase(kit, leaver)
    await until(lambda: departed(kit, leaver))
    gate.set()
    id = await making
    await kit.settle()

    assert await outcome(kit, "project", id, "read", {}, ADMIN) == "not-found"
    assert kit.store.documents["project"][id]["state"]["status"] == "ended"


async def test_other_services_learn_what_a_user_is_in_a_project(
    kit: ObjectKit, people: dict[str, Principal], shared: str
) -> None:
    async def role_of(id: str, who: str) -> Any:
        return await kit.call("project", id, "role_of", user_id=people[who].subject, caller=SERVICE)

    assert await role_of(shared, "maintainer") == "maintainer"
    assert await role_of(shared, "stranger") is None
    assert (await failure(role_of(new_id(), "owner"))).code == "not-found"
    await kit.call("project", shared, "delete")
    assert (await failure(role_of(shared, "owner"))).code == "not-found"
