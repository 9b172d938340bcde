"""What belongs to projects, through both doors: who reaches it, and how it goes with its project."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pymongo

from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from aidevos.durable.belongings import STEP
from tests.e2e.people import Person, made
from tests.e2e.world import NatsDoor, World

Persons = Callable[[], Awaitable[Person]]
# Within which everybody goes by a change.
SECOND = 1.0


async def project_of(http: httpx.AsyncClient, owner: Person, **members: Person) -> str:
    id: str = (await made(http, "/projects", owner, name="Engine"))["id"]
    for role, member in members.items():
        await give(http, id, owner, member, role)
    return id


async def give(http: httpx.AsyncClient, project: str, owner: Person, member: Person, role: str) -> None:
    path = f"/projects/{project}/members/{member.id}"
    assert (await http.put(path, headers=owner.headers, json={"role": role})).is_success


async def collection_of(http: httpx.AsyncClient, project: str, owner: Person) -> str:
    name = f"c{secrets.token_hex(8)}"
    answer = await http.put(
        f"/data/collections/{name}", headers=owner.headers, json={"project": project, "rules": {"read": "public"}}
    )
    assert answer.status_code == 201, answer.text
    return name


async def at_both(http: httpx.AsyncClient, nats: NatsDoor, collection: str, who: Person) -> tuple[Any, ...]:
    """What becomes of reading an item, of finding items and of changing one, over HTTP and over NATS."""
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
    codes = tuple(answer.status_code for answer in answers)
    assert codes == tuple(replies)
    return codes


async def status(work: Awaitable[Any]) -> int:
    try:
        await work
    except Failure as failure:
        return failure.status
    return 200


async def becomes(expected: Any, look: Callable[[], Awaitable[Any]], within: float = SECOND) -> None:
    """Return when what is looked at is as expected; that has to be so in time."""
    async with asyncio.timeout(within):
        while await look() != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_change_of_members_counts_in_the_projects_collections_within_a_second(
    http: httpx.AsyncClient, over_nats: NatsDoor, person: Persons
) -> None:
    ada, bob, carl = await person(), await person(), await person()
    project = await project_of(http, ada, viewer=bob)
    name = await collection_of(http, project, ada)
    await made(http, f"/data/collections/{name}", ada, id="first", data=1)

    async def seen(who: Person = bob) -> tuple[Any, ...]:
        return await at_both(http, over_nats, name, who)

    assert await seen(ada) == (200, 200, 200)
    assert await seen() == (200, 200, 403)
    assert await seen(carl) == (404, 404, 404)
    assert (await http.get(f"/data/collections/{name}/first")).status_code == 404
    await give(http, project, ada, bob, "maintainer")
    await becomes((200, 200, 200), seen)
    removed = await http.delete(f"/projects/{project}/members/{bob.id}", headers=ada.headers)
    assert removed.status_code == 204
    await becomes((404, 404, 404), seen)
    await give(http, project, ada, bob, "viewer")
    assert await seen() == (200, 200, 403)


async def test_a_collection_shows_its_project_and_is_found_by_it(
    http: httpx.AsyncClient, over_nats: NatsDoor, person: Persons
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
    http: httpx.AsyncClient, person: Persons, world: World
) -> None:
    ada = await person()
    project = await project_of(http, ada)
    count = STEP + 5
    names = await asyncio.gather(*(collection_of(http, project, ada) for _ in range(count)))
    await asyncio.gather(*(made(http, f"/data/collections/{name}", ada, data=1) for name in names))

    deleted = await http.delete(f"/projects/{project}", headers=ada.headers)
    for service in ("data_storage", "projects"):
        world.restart(service)

    assert deleted.json()["removes"] == {"tasks": 0, "collections": count}
    client: Any = pymongo.MongoClient(world.servers.mongo_url)
    with client:
        stored = client[world.database]
        left = {"deleted": None}

        async def gone() -> tuple[int, int, str]:
            collections = stored["obj_collection"].count_documents({"state.config.project": project} | left)
            items = stored["obj_item"].count_documents({"state.collection": {"$in": names}} | left)
            return collections, items, stored["obj_project"].find_one(project)["state"]["status"]

        await becomes((0, 0, "ended"), gone, within=60)


async def test_collections_that_are_made_while_their_project_ends_dont_stay(
    http: httpx.AsyncClient, person: Persons, world: World
) -> None:
    ada = await person()
    project = await project_of(http, ada)
    ended = asyncio.Event()

    async def keep_making() -> None:
        while not ended.is_set():
            path = f"/data/collections/c{secrets.token_hex(8)}"
            await http.put(path, headers=ada.headers, json={"project": project})

    makers = [asyncio.create_task(keep_making()) for _ in range(4)]
    await becomes(True, lambda: several(http, ada, project), within=10)
    deleted = await http.delete(f"/projects/{project}", headers=ada.headers)
    await asyncio.sleep(SECOND)
    ended.set()
    await asyncio.gather(*makers)

    assert deleted.json()["removes"]["collections"] > 0
    client: Any = pymongo.MongoClient(world.servers.mongo_url)
    with client:
        stored = client[world.database]["obj_collection"]

        async def left() -> int:
            return int(stored.count_documents({"state.config.project": project, "deleted": None}))

        await becomes(0, left, within=20)


async def several(http: httpx.AsyncClient, who: Person, project: str) -> bool:
    page = (await http.get("/data/collections", params={"project": project}, headers=who.headers)).json()
    return len(page["items"]) > 4
