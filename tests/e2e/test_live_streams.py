"""Live streams: events reach the readers who may know of them, and nobody else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from tests.support.http import http_client
from tests.support.people import PASSWORD, Person, made
from tests.support.sse import Source
from tests.support.world import World

Open = Callable[..., Awaitable[Source]]
Register = Callable[[], Awaitable[Person]]
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def open_stream(http: httpx2.AsyncClient) -> AsyncIterator[Open]:
    sources: list[Source] = []

    async def begin(who: Person | dict[str, str], after: str = "", **parameters: str) -> Source:
        headers = who.headers if isinstance(who, Person) else who
        sources.append(Source(http, headers, after, **parameters))
        return await sources[-1].opened()

    yield begin
    await asyncio.gather(*(source.close() for source in sources))


@pytest.fixture
async def collection() -> str:
    return f"c{secrets.token_hex(8)}"


async def put(http: httpx2.AsyncClient, who: Person, collection: str, id: str, data: Any = 1) -> None:
    """Create the item, or change it."""
    path = f"/data/collections/{collection}"
    answer = await http.post(path, headers=who.headers, json={"id": id, "data": data})
    if answer.status_code == 409:
        answer = await http.put(f"{path}/{id}", headers=who.headers, json={"data": data})
    assert answer.is_success, answer.text


async def configure(http: httpx2.AsyncClient, who: Person, collection: str, **config: Any) -> None:
    answer = await http.put(f"/data/collections/{collection}", headers=who.headers, json=config)
    assert answer.is_success, answer.text


async def visible_to(source: Source, http: httpx2.AsyncClient, person: Person, *types: str) -> list[Any]:
    """Return the stream's events up to a marker event that the reader caused; no earlier event can still follow."""
    own = f"c{secrets.token_hex(8)}"
    await put(http, person, own, "last")
    await source.until(lambda: any(shown.get("collection") == own for shown in source.shown))
    return [seen.about for seen in source.seen if seen.about.get("collection") != own]


async def test_an_event_comes_as_it_happens_with_what_may_be_shown(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada = await person()
    source = await open_stream(ada, type="item", collection=collection)
    await put(http, ada, collection, "one")
    await put(http, ada, collection, "one", 2)
    await http.delete(f"/data/collections/{collection}/one", headers=ada.headers)

    assert await source.wait(3) == [
        {"id": "one", "collection": collection, "version": version} for version in (1, 2, 3)
    ]
    assert [seen.event for seen in source.seen] == ["item.created", "item.updated", "item.deleted"]
    for seen in source.seen:
        assert (seen.data["specversion"], seen.data["type"]) == ("1.0", seen.event)
        assert int(seen.id)
    assert source.headers["content-type"] == "text/event-stream"
    assert source.headers["cache-control"] == "no-store"
    assert source.headers["x-accel-buffering"] == "no"
    assert "ratelimit" in source.headers


@pytest.mark.parametrize(
    ("rule", "reader", "shown"),
    [
        ("owner", "owner", True),
        ("owner", "other", False),
        ("owner", "admin", True),
        ("authenticated", "other", True),
        ("public", "other", True),
        ("role:user", "other", True),
        ("role:clerk", "other", False),
        ("role:clerk", "owner", False),
        ("permission:data:write", "other", True),
        ("permission:counter:read", "other", False),
    ],
)
async def test_an_item_s_event_shows_to_whom_the_item_shows(
    http: httpx2.AsyncClient,
    world: World,
    person: Register,
    collection: str,
    open_stream: Open,
    rule: str,
    reader: str,
    shown: bool,
) -> None:
    owner, other = await person(), await person()
    await configure(http, owner, collection, rules={"read": rule})
    readers = {"owner": owner, "other": other, "admin": Person("admin", "admin", {"Authorization": world.admin})}
    source = await open_stream(readers[reader], type="item")
    await put(http, owner, collection, "one")
    answer = await http.get(f"/data/collections/{collection}/one", headers=readers[reader].headers)

    found = await visible_to(source, http, readers[reader])
    assert [event for event in found if event["collection"] == collection] == [
        {"id": "one", "collection": collection, "version": 1}
    ] * shown
    assert (answer.status_code == 200) == shown


async def test_an_item_comes_with_its_events_to_whom_may_read_it(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada, bob = await person(), await person()
    await configure(http, ada, collection, rules={"read": "owner", "create": "authenticated"})
    sources = [await open_stream(who, collection=collection, include="data") for who in (ada, bob)]
    place = sources[0].last_event_id
    await put(http, ada, collection, "hers", {"title": "SICP"})
    await put(http, bob, collection, "his", {"title": "K&R"})
    path = f"/data/collections/{collection}/hers"
    shown = (await http.get(path, headers=ada.headers)).json()

    own = (await sources[0].wait(1))[0]
    assert own == {"id": "hers", "collection": collection, "version": 1, "item": shown}
    assert [event["item"]["data"] for event in await sources[1].wait(1)] == [{"title": "K&R"}]
    assert (await http.delete(path, headers=ada.headers)).status_code == 204
    late = await open_stream(ada, place, collection=collection, include="data")
    for source in (sources[0], late):
        events = {seen.event: seen.about for seen in source.seen} if await source.wait(2) else {}
        assert "item" not in events["item.deleted"]
    assert "item" not in late.shown[0]


async def test_among_items_of_many_owners_one_sees_one_s_own(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada, bob = await person(), await person()
    await configure(http, ada, collection, rules={"read": "owner", "create": "authenticated"})
    source = await open_stream(bob, collection=collection)
    await put(http, ada, collection, "hers")
    await put(http, bob, collection, "his")

    assert [shown["id"] for shown in await source.wait(1)] == ["his"]


async def test_what_a_deleted_collection_had_is_for_nobody_who_makes_another_of_its_name(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada, bob = await person(), await person()
    place = (await open_stream(bob, collection=collection)).last_event_id
    await put(http, ada, collection, "secret")
    assert (await http.delete(f"/data/collections/{collection}", headers=ada.headers)).status_code == 204
    await configure(http, bob, collection, rules={"read": "public"})
    await put(http, bob, collection, "open")

    source = await open_stream(bob, place, collection=collection)

    assert [shown["id"] for shown in await source.wait(1)] == ["open"]


async def test_what_a_project_has_shows_to_its_members(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    owner, member, stranger = await person(), await person(), await person()
    project = (await made(http, "/projects", owner, name="p"))["id"]
    await configure(http, owner, collection, project=project)
    path = f"/projects/{project}/members/{member.id}"
    assert (await http.put(path, headers=owner.headers, json={"role": "viewer"})).is_success
    wanted = {"type": "item,task,project", "name": "created,updated"}
    sources = [await open_stream(who, **wanted) for who in (member, stranger)]
    task = await made(http, f"/projects/{project}/tasks", owner, kind="report")
    await http.patch(f"/projects/{project}", headers=owner.headers | MERGE, json={"name": "q"})
    await put(http, owner, collection, "one")

    await sources[0].wait(3)
    # Events of different objects have no order among them.
    found = {seen.event: seen.data["source"] for seen in sources[0].seen[:3]}
    assert set(found) == {"task.created", "project.updated", "item.created"}
    assert found["task.created"] == f"/durable-objects/task:{task['id']}"
    assert await visible_to(sources[1], http, stranger) == []
    assert (await http.delete(path, headers=owner.headers)).is_success
    # The promise is: within a second. That nothing more comes is all that could be waited for.
    await asyncio.sleep(1)
    await made(http, f"/projects/{project}/tasks", owner, kind="report")
    await visible_to(sources[0], http, member)
    assert [seen.event for seen in sources[0].seen].count("task.created") == 1


async def test_what_an_object_of_a_project_emits_shows_to_those_members_who_may_read_its_type(
    http: httpx2.AsyncClient, world: World, person: Register, new_id: str, open_stream: Open
) -> None:
    owner, member = await person(), await person()
    project = (await made(http, "/projects", owner, name="p"))["id"]
    path = f"/projects/{project}/members/{member.id}"
    assert (await http.put(path, headers=owner.headers, json={"role": "viewer"})).is_success
    inside, outside = f"{new_id}i", f"{new_id}o"
    making = {"type": "chat_room", "name": inside, "project": project}
    chief = {"Authorization": world.admin}
    assert (await http.post("/durable-objects", headers=chief, json=making)).status_code == 201

    def may(subject: str, *permissions: str) -> dict[str, str]:
        return {"Authorization": world.token("events:read", *permissions, subject=subject)}

    readers = [may(member.id, "chat_room:read"), may(f"{new_id}s", "chat_room:read"), may(member.id, "projects:create")]
    sources = [await open_stream(reader, type="chat_room", id=f"{inside},{outside}") for reader in readers]
    await post(http, world, inside, "inside")
    assert [shown["message"]["text"] for shown in await sources[0].wait(1)] == ["inside"]
    assert sources[0].seen[0].data["project"] == project
    await post(http, world, outside, "outside")

    assert [shown["message"]["text"] for shown in await sources[1].wait(1)] == ["outside"]
    await sources[0].wait(2)
    assert sources[2].seen == []


async def test_a_user_s_own_events_show_to_the_user_and_to_those_who_may_read_users(
    http: httpx2.AsyncClient, world: World, person: Register, open_stream: Open
) -> None:
    ada, bob, clerk = await person(), await person(), world.token("events:read", "users:read", "data:read")
    sources = [await open_stream(who, type="user,session") for who in (ada, bob, {"Authorization": clerk})]
    again = await http.post("/auth/login", json={"username": ada.name, "password": PASSWORD})
    session = {"Authorization": f"Bearer {again.json()['access_token']}"}
    assert (await http.post("/auth/logout", headers=session)).status_code == 204

    for source in (sources[0], sources[2]):
        await source.until(lambda source=source: any(shown.get("user") == ada.id for shown in source.shown))
    assert all(shown.get("user") != ada.id for shown in sources[1].shown)


async def test_every_other_type_needs_the_permission_to_read_it(
    http: httpx2.AsyncClient, world: World, new_id: str, open_stream: Open
) -> None:
    def may(*permissions: str) -> dict[str, str]:
        return {"Authorization": world.token("events:read", *permissions)}

    may_read, may_not = may("chat_room:read"), may("counter:read", "rooms:read", "chat_room:write")
    sources = [await open_stream(headers, type="chat_room", id=new_id) for headers in (may_read, may_not, may_read)]
    for text in ("first", "second"):
        await post(http, world, new_id, text)

    assert [shown["message"]["text"] for shown in await sources[0].wait(2)] == ["first", "second"]
    await sources[2].wait(2)
    assert sources[1].seen == []


async def test_filters_let_through_what_they_name(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada = await person()
    sources = [
        await open_stream(ada, **wanted)
        for wanted in (
            {"collection": f"{collection},{collection}b"},
            {"collection": collection, "id": "two,three"},
            {"collection": collection, "name": "updated,deleted"},
            {"type": "item,project", "id": "two"},
        )
    ]
    for place, id in ((collection, "one"), (collection, "two"), (f"{collection}b", "two"), (collection, "one")):
        await put(http, ada, place, id)
    await put(http, ada, collection, "last")
    await put(http, ada, collection, "two", 2)

    for source, expected in zip(sources, (6, 2, 2, 3), strict=True):
        await source.wait(expected)
    assert [[(shown["id"], shown["version"]) for shown in source.shown] for source in sources] == [
        [("one", 1), ("two", 1), ("two", 1), ("one", 2), ("last", 1), ("two", 2)],
        [("two", 1), ("two", 2)],
        [("one", 2), ("two", 2)],
        [("two", 1), ("two", 1), ("two", 2)],
    ]


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"types": "item"}, "types"),
        ({"type": "Item"}, "type"),
        ({"type": "item,"}, "type"),
        ({"type": "task", "collection": "c"}, "type"),
        ({"collection": "a/b"}, "collection"),
        ({"id": "a b"}, "id"),
        ({"name": "Created"}, "name"),
        ({"include": "item"}, "include"),
        ({"last_event_id": "x"}, "last_event_id"),
        ({"last_event_id": "-1"}, "last_event_id"),
        ({"id": ",".join("i" * 60)}, "id"),
    ],
)
async def test_what_can_t_be_asked_is_refused_by_its_name(
    http: httpx2.AsyncClient, world: World, parameters: dict[str, str], field: str
) -> None:
    answer = await http.get("/events", params=parameters, headers={"Authorization": world.admin})

    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_reader_resumes_behind_the_last_event_that_it_has(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada = await person()
    first = await open_stream(ada, collection=collection)
    for number in range(5):
        await put(http, ada, collection, f"i{number}")
    await first.wait(5)
    await first.close()
    for number in range(5, 8):
        await put(http, ada, collection, f"i{number}")

    resumed = await open_stream(ada, first.seen[2].id, collection=collection)
    by_url = await open_stream(ada, collection=collection, last_event_id=first.seen[2].id)
    by_both = await open_stream(ada, first.seen[3].id, collection=collection, last_event_id=first.seen[0].id)
    await resumed.wait(5)
    new = await open_stream(ada, collection=collection)
    await put(http, ada, collection, "i8")

    for source, missed in ((resumed, 3), (by_url, 3), (by_both, 4), (new, 8)):
        await source.wait(9 - missed)
        assert [shown["id"] for shown in source.shown] == [f"i{number}" for number in range(missed, 9)]


async def test_a_place_that_is_not_kept_is_a_gap_that_the_reader_is_told(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada = await person()
    source = await open_stream(ada, "900000000000000000", collection=collection)
    await source.until(lambda: [seen.event for seen in source.seen] == ["gap"])
    await source.until(lambda: source.last_event_id != "900000000000000000")
    await put(http, ada, collection, "one")

    assert [shown["id"] for shown in await source.wait(1)] == ["one"]


async def test_a_head_request_is_answered_and_ends(http: httpx2.AsyncClient, world: World) -> None:
    answer = await http.head("/events", headers={"Authorization": world.admin})

    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "text/event-stream", b"")


async def test_cookies_and_api_keys_open_a_stream_too(
    http: httpx2.AsyncClient, world: World, person: Register, collection: str, open_stream: Open
) -> None:
    ada = await person()
    key = (await made(http, "/api-keys", ada, name="k", scopes=["events:read", "data:read"]))["key"]
    async with http_client(base_url=world.url, timeout=20) as browser:
        await browser.post("/auth/login?cookie=true", json={"username": ada.name, "password": PASSWORD})
        cookie = Source(browser, {"Sec-Fetch-Site": "same-origin"}, collection=collection)
        await cookie.opened()
        by_key = await open_stream({"X-Api-Key": key}, collection=collection)
        await put(http, ada, collection, "one")

        assert await cookie.wait(1) == await by_key.wait(1)
        await cookie.close()


async def test_a_stream_ends_with_the_credential_or_the_permission_and_says_why(
    http: httpx2.AsyncClient, world: World, person: Register, open_stream: Open
) -> None:
    ada, bob, cleo = await person(), await person(), await person()
    key = await made(http, "/api-keys", cleo, name="k", scopes=["events:read", "data:read"])
    admin = {"Authorization": world.admin}
    role = f"r{secrets.token_hex(6)}"
    made_role = await http.post("/roles", headers=admin, json={"name": role, "permissions": ["data:read"]})
    assert made_role.status_code == 201
    headers = [ada.headers, bob.headers, {"X-Api-Key": key["key"]}]
    sources = [await open_stream(each) for each in headers]

    async def ends(source: Source, reason: str, change: Awaitable[httpx2.Response]) -> None:
        assert (await change).is_success
        await source.ended(within=1.5)
        assert [(seen.event, seen.data["reason"]) for seen in source.seen if seen.event == "end"] == [("end", reason)]

    await ends(sources[0], "unauthenticated", http.post("/auth/logout", headers=ada.headers))
    roles = http.patch(f"/users/{bob.id}", headers=admin | MERGE, json={"roles": [role]})
    await ends(sources[1], "forbidden", roles)
    await ends(sources[2], "unauthenticated", http.delete(f"/api-keys/{key['id']}", headers=cleo.headers))
    for each, status in zip(headers, (401, 403, 401), strict=True):
        assert (await http.get("/events", headers=each)).status_code == status


async def test_what_a_reader_may_see_changes_while_it_reads(
    http: httpx2.AsyncClient, person: Register, collection: str, open_stream: Open
) -> None:
    ada, bob = await person(), await person()
    await configure(http, ada, collection, rules={"read": "public"})
    source = await open_stream(bob, type="item")
    await put(http, ada, collection, "one")
    await source.until(lambda: any(shown["collection"] == collection for shown in source.shown))
    await configure(http, ada, collection, rules={"read": "owner"})
    # The promise is: within a second. That nothing more comes is all that could be waited for.
    await asyncio.sleep(1)
    await put(http, ada, collection, "two")

    found = await visible_to(source, http, bob)
    assert [shown["id"] for shown in found if shown["collection"] == collection] == ["one"]


async def post(http: httpx2.AsyncClient, world: World, room: str, text: str) -> Any:
    headers = {"Authorization": world.token("objects:request", "chat_room:write", "projects:manage")}
    body = {"method": "post", "args": {"text": text}}
    answer = await http.post(f"/durable-objects/chat_room:{room}/request", headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]
