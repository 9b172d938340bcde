"""Objects that belong to projects, over HTTP and NATS: access, and their end with the project."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pymongo

from aidevos import new_id
from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from aidevos.projects.belongings import STEP
from tests.support.people import Person, made
from tests.support.world import EntryPoint, NatsEntryPoint, World

Persons = Callable[[], Awaitable[Person]]
# Seconds in which a change takes effect everywhere, doubled for a busy machine.
SOON = 2.0


async def project_of(http: httpx2.AsyncClient, owner: Person, **members: Person) -> str:
    id: str = (await made(http, "/projects", owner, name="Engine"))["id"]
    for role, member in members.items():
        await give(http, id, owner, member, role)
    return id


async def give(http: httpx2.AsyncClient, project: str, owner: Person, member: Person, role: str) -> None:
    path = f"/projects/{project}/members/{member.id}"
    assert (await http.put(path, headers=owner.headers, json={"role": role})).is_success


async def collection_of(http: httpx2.AsyncClient, project: str, owner: Person) -> str:
    name = f"c{secrets.token_hex(8)}"
    answer = await http.put(
        f"/data/collections/{name}", headers=owner.headers, json={"project": project, "rules": {"read": "public"}}
    )
    assert answer.status_code == 201, answer.text
    return name


READS, CHANGES, NOTHING = [[200, 200, 403]] * 2, [[200, 200, 200]] * 2, [[404, 404, 404]] * 2


async def outcomes_of(http: httpx2.AsyncClient, nats: NatsEntryPoint, collection: str, who: Person) -> list[list[int]]:
    """Return the outcomes of reading, finding and changing an item, over HTTP and over NATS."""
    path = f"/data/collections/{collection}"
    answers = [
        await http.get(f"{path}/first", headers=who.headers),
        await http.get(path, headers=who.headers),
        await http.put(f"{path}/first", headers=who.headers, json={"data": 2}),
    ]
    item = item_object(collection, "first")
    replies = [
        await status(nats.call("item", item, "read", authorization=who.authorization)),
        await status(nats.query("item", "find", {"collection": collection}, authorization=who.authorization)),
        await status(nats.call("item", item, "replace", b'{"data":3}', authorization=who.authorization)),
    ]
    return [[answer.status_code for answer in answers], replies]


async def status(work: Awaitable[Any]) -> int:
    try:
        await work
    except Failure as failure:
        return failure.status
    return 200


async def wait_for(expected: Any, look: Callable[[], Awaitable[Any]], within: float = SOON) -> None:
    """Return once `look` gives the expected value; fail if that takes too long."""
    async with asyncio.timeout(within):
        while await look() != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_change_of_members_counts_in_the_projects_collections_within_a_second(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, person: Persons
) -> None:
    ada, bob, carl = await person(), await person(), await person()
    project = await project_of(http, ada, viewer=bob)
    name = await collection_of(http, project, ada)
    await made(http, f"/data/collections/{name}", ada, id="first", data=1)

    async def seen(who: Person = bob) -> list[list[int]]:
        return await outcomes_of(http, over_nats, name, who)

    assert await seen(ada) == CHANGES
    assert await seen() == READS
    assert await seen(carl) == NOTHING
    assert (await http.get(f"/data/collections/{name}/first")).status_code == 404
    await give(http, project, ada, bob, "maintainer")
    await wait_for(CHANGES, seen)
    removed = await http.delete(f"/projects/{project}/members/{bob.id}", headers=ada.headers)
    assert removed.status_code == 204
    await wait_for(NOTHING, seen)
    await give(http, project, ada, bob, "viewer")
    assert await seen() == READS


async def test_a_collection_shows_its_project_and_is_found_by_it(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, person: Persons
) -> None:
    ada, bob = await person(), await person()
    project = await project_of(http, ada, viewer=bob)
    name = await collection_of(http, project, ada)

    config = (await http.get(f"/data/collections/{name}/config", headers=bob.headers)).json()
    found = (await http.get("/data/collections", params={"project": project}, headers=bob.headers)).json()
    asked = await over_nats.query("collection", "visible", {"project": project}, authorization=bob.authorization)
    other = await http.put(f"/data/collections/{name}x", headers=bob.headers, json={"project": project})
    nobodys = await http.put(f"/data/collections/{name}x", headers=bob.headers, json={"project": "none"})

    assert config["project"] == project
    assert [(entry["name"], entry["project"]) for entry in found["items"]] == [(name, project)]
    assert asked == found
    assert (other.status_code, nobodys.status_code) == (403, 422)
    assert nobodys.json()["field"] == "project"


async def test_what_belongs_to_a_project_goes_with_it_though_services_are_killed_in_the_middle(
    http: httpx2.AsyncClient, person: Persons, world: World
) -> None:
    ada = await person()
    project = await project_of(http, ada)
    count = STEP + 5
    names = await asyncio.gather(*(collection_of(http, project, ada) for _ in range(count)))
    await asyncio.gather(*(made(http, f"/data/collections/{name}", ada, data=1) for name in names))

    key = await made(http, "/api-keys", ada, name="ci", scopes=["*"], project=project)

    admin = {"Authorization": world.admin}
    counters = [
        (await http.post("/durable-objects", headers=admin, json={"type": "counter", "project": project})).json()["id"]
        for _ in range(2)
    ]

    deleted = await http.delete(f"/projects/{project}", headers=ada.headers)
    for service in ("data_storage", "projects", "objects"):
        world.restart(service)

    assert deleted.json()["removes"] == {"tasks": 0, "collections": count, "keys": 1, "objects": 2}
    client: Any = pymongo.MongoClient(world.servers.mongo_url)
    with client:
        stored = client[world.database]
        left = {"deleted": None}

        async def gone() -> tuple[int, int, int, str]:
            objects = stored["obj_counter"].count_documents({"_id": {"$in": counters}} | left)
            collections = stored["obj_collection"].count_documents({"state.config.project": project} | left)
            items = stored["obj_item"].count_documents({"state.collection": {"$in": names}} | left)
            return collections, items, objects, stored["obj_project"].find_one(project)["state"]["status"]

        await wait_for((0, 0, 0, "ended"), gone, within=60)

    async def at_the_key() -> int:
        return (await http.get(f"/projects/{project}", headers={"X-Api-Key": key["key"]})).status_code

    await wait_for(401, at_the_key)


async def test_objects_of_a_project_are_its_members_over_http_and_nats(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, door: EntryPoint, person: Persons, world: World
) -> None:
    ada, bob = await person(), await person()
    project = await project_of(http, ada, viewer=bob)
    rights = ("counter:read", "counter:write", "objects:manage", "objects:request")
    owner, viewer, stranger = (world.token(*rights, subject=who) for who in (ada.id, bob.id, new_id()))
    id = new_id()

    async def seen(who: str) -> list[int]:
        calls = [("value", b"{}"), ("increment", b'{"by":1}'), ("_read", b"{}")]
        return [await status(door.call("counter", id, method, args, authorization=who)) for method, args in calls]

    belonging = b'{"project":"%b"}' % project.encode()
    refused = await status(door.call("counter", id, "_create", belonging, authorization=stranger))
    made = await door.call("counter", id, "_create", belonging, authorization=owner)

    assert (refused, made["project"]) == (422, project)
    assert (await seen(owner), await seen(viewer), await seen(stranger)) == (
        [200, 200, 200],
        [200, 403, 200],
        [404, 404, 404],
    )
    asked = {"type": "counter", "project": project}
    listed = (await http.get("/durable-objects", params=asked, headers={"Authorization": viewer})).json()["items"]
    told = await over_nats.query("counter", "list", {"project": project}, authorization=viewer)
    hidden = await http.get("/durable-objects", params=asked, headers={"Authorization": stranger})
    assert [item["id"] for item in listed] == [item["id"] for item in told["items"]] == [id]
    assert hidden.status_code == 404
    assert (await http.delete(f"/projects/{project}/members/{bob.id}", headers=ada.headers)).status_code == 204
    await wait_for([404, 404, 404], lambda: seen(viewer))
    assert (await http.delete(f"/projects/{project}", headers=ada.headers)).json()["removes"]["objects"] == 1
    await wait_for(404, lambda: status(door.call("counter", id, "_read", authorization=world.admin)), within=20)


async def test_a_key_of_a_project_reaches_its_belongings_alone_and_follows_its_owners_role(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, person: Persons
) -> None:
    ada, bob = await person(), await person()
    project = await project_of(http, ada, maintainer=bob)
    name = await collection_of(http, project, ada)
    await made(http, f"/data/collections/{name}", ada, id="first", data=1)
    own = f"c{secrets.token_hex(8)}"
    await made(http, f"/data/collections/{own}", bob, id="first", data=1)
    task = await made(http, f"/projects/{project}/tasks", bob, kind="report")
    made_key = await made(http, "/api-keys", bob, name="ci", scopes=["*"], project=project)
    key = bob._replace(headers={"Authorization": f"ApiKey {made_key['key']}"})

    async def seen(collection: str = name) -> list[list[int]]:
        return await outcomes_of(http, over_nats, collection, key)

    async def over_http(method: str, path: str, **options: Any) -> int:
        return (await http.request(method, path, headers=key.headers, **options)).status_code

    assert made_key["project"] == project
    assert await seen() == CHANGES
    assert await seen(own) == NOTHING
    assert [await over_http("GET", path) for path in (f"/projects/{project}", f"/tasks/{task['id']}")] == [200, 200]
    listed = (await http.get("/data/collections", headers=key.headers)).json()["items"]
    assert [entry["name"] for entry in listed] == [name]
    for path in ("/projects", "/api-keys", f"/users/{bob.id}"):
        assert await over_http("GET", path) == 403, path
    assert await over_http("POST", "/projects", json={"name": "p"}) == 403
    for type, search in (("project", "search"), ("api_key", "search")):
        assert await status(over_nats.query(type, search, {}, authorization=key.authorization)) == 403
    asked = over_nats.call("user", bob.id, "read", authorization=key.authorization)
    assert await status(asked) == 403
    moved = await http.patch(
        f"/api-keys/{made_key['id']}",
        headers=bob.headers | {"Content-Type": "application/merge-patch+json"},
        json={"project": "another"},
    )
    assert (moved.status_code, moved.json()["field"]) == (422, "project")
    await give(http, project, ada, bob, "viewer")
    await wait_for(READS, seen)
    assert (await http.delete(f"/projects/{project}/members/{bob.id}", headers=ada.headers)).status_code == 204
    await wait_for(NOTHING, seen)


async def test_collections_that_are_made_while_their_project_ends_dont_stay(
    http: httpx2.AsyncClient, person: Persons, world: World
) -> None:
    ada = await person()
    project = await project_of(http, ada)
    ended = asyncio.Event()

    async def keep_making() -> None:
        while not ended.is_set():
            path = f"/data/collections/c{secrets.token_hex(8)}"
            await http.put(path, headers=ada.headers, json={"project": project})

    makers = [asyncio.create_task(keep_making()) for _ in range(4)]
    await wait_for(True, lambda: several(http, ada, project), within=10)
    deleted = await http.delete(f"/projects/{project}", headers=ada.headers)
    await asyncio.sleep(SOON)
    ended.set()
    await asyncio.gather(*makers)

    assert deleted.json()["removes"]["collections"] > 0
    client: Any = pymongo.MongoClient(world.servers.mongo_url)
    with client:
        stored = client[world.database]["obj_collection"]

        async def left() -> int:
            return int(stored.count_documents({"state.config.project": project, "deleted": None}))

        await wait_for(0, left, within=20)


async def several(http: httpx2.AsyncClient, who: Person, project: str) -> bool:
    page = (await http.get("/data/collections", params={"project": project}, headers=who.headers)).json()
    return len(page["items"]) > 4
