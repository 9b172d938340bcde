"""Projects, members and tasks over HTTP and NATS, with users that are registered and erased."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx2
import msgspec
import pymongo
import pytest

from aidevos import new_id
from aidevos.contracts.errors import Failure
from aidevos.projects.belongings import STEP
from tests.support.people import PASSWORD, made
from tests.support.world import NatsEntryPoint, World

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def admin(world: World) -> dict[str, str]:
    return {"Authorization": world.admin}


async def test_a_project_is_made_read_replaced_patched_and_deleted_over_http(
    http: httpx2.AsyncClient, person: Any
) -> None:
    ada = await person()
    created = await http.post("/projects", headers=ada.headers, json={"name": "Engine", "settings": {"a.b": {"$c": 1}}})
    project = created.json()
    path = f"/projects/{project['id']}"
    read = await http.get(path, headers=ada.headers)
    unchanged = await http.get(path, headers=ada.headers | {"If-None-Match": created.headers["etag"]})
    match = ada.headers | {"If-Match": created.headers["etag"]}
    replaced = await http.put(path, headers=match, json={"name": "Analytical Engine", "description": "Mill"})
    stale = await http.put(path, headers=match, json={"name": "x"})
    patched = await http.patch(
        path, headers=ada.headers | MERGE_PATCH, json={"description": None, "settings": {"a": 1}}
    )
    unpatched = await http.patch(path, headers=ada.headers, json={})
    deleted = await http.delete(path, headers=ada.headers | {"If-Match": patched.headers["etag"]})
    gone = await http.get(path, headers=ada.headers)

    assert created.headers["location"] == path
    assert project == {
        "id": project["id"],
        "name": "Engine",
        "description": "",
        "settings": {"a.b": {"$c": 1}},
        "members": {ada.id: "owner"},
        "status": "active",
        "version": 1,
        "created_at": project["created_at"],
        "updated_at": project["created_at"],
    }
    assert (read.json(), read.headers["etag"]) == (project, '"1"')
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert (replaced.json()["name"], replaced.json()["settings"]) == ("Analytical Engine", {})
    assert stale.status_code == 412
    assert (patched.json()["description"], patched.json()["settings"], patched.headers["etag"]) == ("", {"a": 1}, '"3"')
    assert unpatched.status_code == 415
    assert unpatched.headers["accept-patch"] == "application/merge-patch+json"
    assert (deleted.status_code, deleted.json()["removes"]) == (
        202,
        {"tasks": 0, "collections": 0, "keys": 0, "objects": 0},
    )
    assert gone.status_code == 404


async def test_projects_and_tasks_are_the_same_objects_over_nats(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, person: Any
) -> None:
    ada, id, work = await person(), new_id(), new_id()

    async def call(type: str, id: str, method: str, args: Any = None, **headers: str) -> Any:
        payload = msgspec.json.encode(args or {})
        return await over_nats.call(
            type, id, method, payload, authorization=ada.headers["Authorization"], headers=headers
        )

    project = await call("project", id, "create", {"name": "Engine"})
    task = await call("task", work, "create", {"project": id, "kind": "report", "payload": {"b": 1, "a": 2}})
    patched = await call("task", work, "patch", {"patch": {"priority": 7}}, **{"If-Match": '"1"'})
    with pytest.raises(Failure) as stale:
        await call("task", work, "cancel", **{"If-Match": '"1"'})
    listed = await call("project", id, "tasks", {"kind": "report"})
    found = await over_nats.query("project", "search", {}, authorization=ada.headers["Authorization"])

    assert (await http.get(f"/projects/{id}", headers=ada.headers)).json() == project
    assert (await http.get(f"/tasks/{work}", headers=ada.headers)).json() == patched
    assert (await http.get(f"/projects/{id}/tasks", headers=ada.headers)).json() == listed
    assert (
        (await http.get("/projects", headers=ada.headers)).json() == found == {"items": [project], "next_cursor": None}
    )
    assert (task["priority"], patched["priority"], patched["version"]) == (0, 7, 2)
    assert stale.value.code == "precondition-failed"
    deletion = await call("project", id, "delete")
    assert deletion == {
        "id": id,
        "status": "deleting",
        "removes": {"tasks": 1, "collections": 0, "keys": 0, "objects": 0},
    }
    assert (await http.get(f"/tasks/{work}", headers=ada.headers)).status_code == 404


async def test_members_come_change_and_leave_under_the_projects_etag(
    http: httpx2.AsyncClient, person: Any, admin: dict[str, str]
) -> None:
    ada, bob, carl = await person(), await person(), await person()
    project = await made(http, "/projects", ada, name="Engine")
    path = f"/projects/{project['id']}"
    task = await made(http, f"{path}/tasks", ada, kind="report")
    before = [(await http.get(url, headers=bob.headers)).status_code for url in (path, f"/tasks/{task['id']}")]

    joined = await http.put(f"{path}/members/{bob.id}", headers=ada.headers, json={"role": "viewer"})
    seen = [(await http.get(url, headers=bob.headers)).status_code for url in (path, f"/tasks/{task['id']}")]
    refused = await http.put(f"{path}/members/{carl.id}", headers=bob.headers, json={"role": "viewer"})
    stale = await http.put(
        f"{path}/members/{bob.id}", headers=ada.headers | {"If-Match": '"1"'}, json={"role": "owner"}
    )
    nobody = await http.put(f"{path}/members/{new_id()}", headers=ada.headers, json={"role": "viewer"})
    unknown = await http.put(f"{path}/members/{carl.id}", headers=ada.headers, json={"role": "boss"})
    members = await http.get(f"{path}/members", headers=bob.headers)
    last = await http.delete(f"{path}/members/me", headers=ada.headers)
    left = await http.delete(f"{path}/members/me", headers=bob.headers)
    after = [(await http.get(url, headers=bob.headers)).status_code for url in (path, f"/tasks/{task['id']}")]

    assert before == after == [404, 404]
    assert (joined.json(), joined.headers["etag"]) == ({"user_id": bob.id, "role": "viewer", "version": 2}, '"2"')
    assert seen == [200, 200]
    assert (refused.status_code, stale.status_code) == (403, 412)
    assert (nobody.status_code, nobody.json()["field"]) == (422, "user_id")
    assert (unknown.status_code, unknown.json()["field"]) == (422, "role")
    assert sorted(members.json()["items"], key=lambda item: item["role"]) == [
        {"user_id": ada.id, "role": "owner"},
        {"user_id": bob.id, "role": "viewer"},
    ]
    assert members.headers["etag"] == '"2"'
    assert (last.status_code, last.json()["code"]) == (409, "conflict")
    assert left.status_code == 204
    async with asyncio.timeout(5):
        while await reasons(http, project["id"], admin) != [f"{bob.id} removed", f"{bob.id} viewer"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def reasons(http: httpx2.AsyncClient, target: str, admin: dict[str, str]) -> list[str]:
    """Return the reasons of membership changes in the security log."""
    query = {"target": target, "action": "project.member_changed"}
    return [entry["reason"] for entry in (await http.get("/audit", params=query, headers=admin)).json()["items"]]


async def test_projects_are_found_by_their_members_and_by_administrators(
    http: httpx2.AsyncClient, person: Any, admin: dict[str, str]
) -> None:
    ada, bob = await person(), await person()
    names = [f"Plan {number}" for number in range(5)]
    for name in names:
        await made(http, "/projects", ada, name=name)
    other = await made(http, "/projects", bob, name="Plan B")

    async def found(headers: dict[str, str], **query: str) -> list[str]:
        page = (await http.get("/projects", params={"limit": "2", **query}, headers=headers)).json()
        items = [item["name"] for item in page["items"]]
        return items + (await found(headers, **query | {"cursor": page["next_cursor"]}) if page["next_cursor"] else [])

    assert await found(ada.headers, q="PLAN", sort="-name") == names[::-1]
    assert await found(bob.headers) == await found(bob.headers, member="me") == ["Plan B"]
    assert await found(bob.headers, member=ada.id) == []
    assert await found(admin, member=ada.id, sort="name") == names
    await http.put(f"/projects/{other['id']}/members/{ada.id}", headers=bob.headers, json={"role": "viewer"})
    assert sorted(await found(ada.headers)) == sorted([*names, "Plan B"])
    assert (await http.get("/projects?sort=members", headers=ada.headers)).json()["field"] == "sort"
    assert (await http.get("/projects")).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "data.export", "payload": {"collection": 7}}, "payload.collection"),
        ({"kind": "data.export"}, "payload.collection"),
        ({"kind": "object.delete"}, "kind"),
        ({"kind": "No Kind"}, "kind"),
        ({"kind": "report", "payload": []}, "payload"),
        ({"kind": "report", "priority": 1000}, "priority"),
        ({"kind": "report", "run_at": "tomorrow"}, "run_at"),
        ({"kind": "report", "run_at": "2026-01-01T00:00:00"}, "run_at"),
        ({"kind": "report", "timeout": 0}, "timeout"),
        ({"kind": "report", "retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ({"kind": "report", "retry": {"x": 0}}, "retry.x"),
        ({"kind": "report", "status": "succeeded"}, "status"),
        ({"kind": "report", "project": "other"}, "project"),
        ({}, "kind"),
    ],
)
async def test_a_bad_task_is_refused_by_its_field(
    http: httpx2.AsyncClient, world: World, body: dict[str, Any], field: str
) -> None:
    ada = {"Authorization": world.token(roles=("user",), subject="ada")}
    project = (await http.post("/projects", headers=ada | {"Idempotency-Key": "bad"}, json={"name": "p"})).json()

    refused = await http.post(f"/projects/{project['id']}/tasks", headers=ada, json=body)

    assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_a_task_is_queued_listed_changed_cancelled_retried_and_deleted(
    http: httpx2.AsyncClient, person: Any
) -> None:
    ada = await person()
    project = await made(http, "/projects", ada, name="Engine")
    path = f"/projects/{project['id']}/tasks"
    created = await http.post(
        path,
        headers=ada.headers,
        json={"kind": "data.export", "payload": {"collection": "orders"}, "run_at": "2030-01-01T01:00:00+01:00"},
    )
    task = created.json()
    url = f"/tasks/{task['id']}"
    other = await made(http, path, ada, kind="report")
    patched = await http.patch(
        url, headers=ada.headers | MERGE_PATCH | {"If-Match": '"1"'}, json={"payload": {"collection": "bills"}}
    )
    wrong = await http.patch(url, headers=ada.headers | MERGE_PATCH, json={"payload": {"collection": None}})
    cancelled = await http.post(f"{url}/cancel", headers=ada.headers | {"If-Match": '"2"'})
    again = await http.post(f"{url}/cancel", headers=ada.headers)
    listed = [
        [item["id"] for item in (await http.get(f"{path}?{query}", headers=ada.headers)).json()["items"]]
        for query in ("", "status=cancelled", "kind=report", "sort=-created_at&limit=1")
    ]
    retried = await http.post(f"{url}/retry", headers=ada.headers)
    deleted = await http.delete(url, headers=ada.headers)

    assert (created.status_code, created.headers["location"], created.headers["etag"]) == (201, url, '"1"')
    assert task["run_at"] == "2030-01-01T00:00:00.000Z"
    assert (task["status"], task["project"], task["created_by"]) == ("queued", project["id"], ada.id)
    assert patched.json()["payload"] == {"collection": "bills"}
    assert (wrong.status_code, wrong.json()["field"]) == (422, "payload.collection")
    assert (cancelled.json()["status"], cancelled.headers["etag"]) == ("cancelled", '"3"')
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert listed == [[task["id"], other["id"]], [task["id"]], [other["id"]], [other["id"]]]
    assert retried.json()["status"] == "queued"
    assert deleted.status_code == 204
    assert (await http.get(url, headers=ada.headers)).status_code == 404


async def test_a_repeat_of_a_post_makes_nothing_second_and_keys_are_each_callers_own(
    http: httpx2.AsyncClient, person: Any
) -> None:
    ada, bob = await person(), await person()
    key = {"Idempotency-Key": secrets.token_hex(8)}
    first = await http.post("/projects", headers=ada.headers | key, json={"name": "p"})
    repeat = await http.post("/projects", headers=ada.headers | key, json={"name": "p"})
    other = await http.post("/projects", headers=ada.headers | key, json={"name": "q"})
    theirs = await http.post("/projects", headers=bob.headers | key, json={"name": "p"})
    path = f"/projects/{first.json()['id']}/tasks"
    tasks = [await http.post(path, headers=ada.headers | key, json={"kind": kind}) for kind in ("a", "a", "b")]
    url = f"/tasks/{tasks[0].json()['id']}"
    cancels = [await http.post(f"{url}/cancel", headers=ada.headers | {"Idempotency-Key": "c"}) for _ in range(2)]

    assert repeat.content == first.content
    assert (other.status_code, other.json()["code"]) == (422, "request-id-reused")
    assert theirs.status_code == 201
    assert theirs.json()["id"] != first.json()["id"]
    assert tasks[0].content == tasks[1].content
    assert tasks[2].status_code == 422
    assert cancels[0].content == cancels[1].content
    assert cancels[0].status_code == 200


async def test_administrators_pass_every_check_of_a_project(
    http: httpx2.AsyncClient, person: Any, admin: dict[str, str]
) -> None:
    ada = await person()
    project = await made(http, "/projects", ada, name="Engine")
    task = await made(http, f"/projects/{project['id']}/tasks", ada, kind="report")
    path = f"/projects/{project['id']}"

    answers = [
        await http.get(path, headers=admin),
        await http.patch(path, headers=admin | MERGE_PATCH, json={"name": "x"}),
        await http.get(f"/tasks/{task['id']}", headers=admin),
        await http.post(f"/tasks/{task['id']}/cancel", headers=admin),
        await http.delete(path, headers=admin),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 202]


async def test_an_erased_users_own_projects_end_and_others_let_go_of_it(
    http: httpx2.AsyncClient, person: Any, admin: dict[str, str]
) -> None:
    ada, bob = await person(), await person()
    own = await made(http, "/projects", ada, name="own")
    task = await made(http, f"/projects/{own['id']}/tasks", ada, kind="report")
    shared = await made(http, "/projects", bob, name="shared")
    path = f"/projects/{shared['id']}"
    await http.put(f"{path}/members/{ada.id}", headers=bob.headers, json={"role": "maintainer"})

    erased = await http.request("DELETE", "/users/me", headers=ada.headers, json={"password": PASSWORD})

    assert erased.status_code == 204
    async with asyncio.timeout(5):
        while (await http.get(path, headers=bob.headers)).json()["members"] != {bob.id: "owner"}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for gone in (f"/projects/{own['id']}", f"/tasks/{task['id']}"):
            while (await http.get(gone, headers=admin)).status_code != 404:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_an_api_key_reaches_projects_only_with_the_scope(http: httpx2.AsyncClient, person: Any) -> None:
    ada = await person()
    project = await made(http, "/projects", ada, name="Engine")
    path, answers = f"/projects/{project['id']}", []
    for scope in ("projects:create", "data:read"):
        key = (await made(http, "/api-keys", ada, name="k", scopes=[scope]))["key"]
        answers.append((await http.get(path, headers={"X-Api-Key": key})).status_code)

    assert answers == [200, 403]


async def test_a_deletion_goes_on_after_the_service_was_killed_in_the_middle(
    http: httpx2.AsyncClient, person: Any, world: World
) -> None:
    ada = await person()
    project = await made(http, "/projects", ada, name="Engine")
    path = f"/projects/{project['id']}"
    count = STEP + 20
    await asyncio.gather(*(made(http, f"{path}/tasks", ada, kind="report") for _ in range(count)))

    deleted = await http.delete(path, headers=ada.headers)
    world.restart("projects")

    assert deleted.json()["removes"]["tasks"] == count
    client: Any = pymongo.MongoClient(world.servers.mongo_url)
    with client:
        stored = client[world.database]
        async with asyncio.timeout(60):
            while stored["obj_task"].count_documents({"state.project": project["id"], "deleted": None}):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            while stored["obj_project"].find_one(project["id"])["state"]["status"] != "ended":  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    assert (await http.get(path, headers=ada.headers)).status_code == 404
