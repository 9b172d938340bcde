"""Collections and items over HTTP and NATS: writes, versions and visibility."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec
import nats
import pymongo
import pytest

from aidevos import id_from_name
from aidevos.contracts.data import item_object
from aidevos.contracts.errors import Failure
from tests.support.data_collections import USER, create_item, headers_of
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.logins import Person, bearer, logged_in
from tests.support.world import NatsEntryPoint, World

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
SALES = "permission:sales:write"


async def test_an_item_is_made_read_replaced_patched_and_deleted_over_http(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    created = await http.post(f"/{name}", headers=ada, json={"data": {"price": 1, "$where": {"a.b": 1.0}}})
    item = created.json()
    path = f"/{name}/{item['id']}"
    read = await http.get(path, headers=ada)
    unchanged = await http.get(path, headers=ada | {"If-None-Match": created.headers["etag"]})
    match = ada | {"If-Match": created.headers["etag"]}
    replaced = await http.put(path, headers=match, json={"data": {"b": 1, "a": 2}})
    stale = await http.put(path, headers=match, json={"data": 0})
    patched = await http.patch(path, headers=ada | MERGE_PATCH, content=b'{"b":null,"c":{"d":[]}}')
    unpatched = await http.patch(path, headers=ada, json={})
    deleted = await http.delete(path, headers=ada)
    gone = await http.get(path, headers=ada)

    assert created.status_code == 201
    assert created.headers["location"] == f"/data/collections{path}"
    assert set(item) == {"id", "collection", "data", "version", "owner", "created_at", "updated_at"}
    assert (item["collection"], item["owner"], item["version"]) == (name, "ada", 1)
    assert b'"data":{"price":1,"$where":{"a.b":1.0}}' in read.content
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert b'"data":{"b":1,"a":2}' in replaced.content
    assert stale.status_code == 412
    assert patched.json()["data"] == {"a": 2, "c": {"d": []}}
    assert patched.headers["etag"] == '"3"'
    assert unpatched.status_code == 415
    assert unpatched.headers["accept-patch"] == "application/merge-patch+json, application/json-patch+json"
    assert deleted.status_code == 204
    assert gone.status_code == 404


async def test_an_item_is_made_read_replaced_patched_and_deleted_over_nats(
    over_nats: NatsEntryPoint, world: World, name: str
) -> None:
    ada = world.token(roles=USER, subject="ada")
    id = id_from_name("item", f"{name}/first")

    async def call(method: str, payload: bytes = b"{}", **headers: str) -> Any:
        return await over_nats.call("item", id, method, payload, authorization=ada, headers=headers)

    item = await call("create", f'{{"collection":"{name}","id":"first","data":[1]}}'.encode())
    replaced = await call("replace", b'{"data":{"a":1}}', **{"If-Match": '"1"'})
    with pytest.raises(Failure) as stale:
        await call("replace", b'{"data":{"a":1}}', **{"If-Match": '"1"'})
    patched = await call("patch", b'{"patch":{"b":2}}')
    read = await call("read")
    await call("delete")
    with pytest.raises(Failure) as gone:
        await call("read")

    assert (item["data"], item["version"], item["owner"]) == ([1], 1, "ada")
    assert replaced["version"] == 2
    assert stale.value.status == 412
    assert patched == read
    assert read["data"] == {"a": 1, "b": 2}
    assert gone.value.status == 404


async def test_what_one_may_not_read_is_not_there(http: httpx2.AsyncClient, world: World, name: str) -> None:
    ada, bob = headers_of(world, "ada"), headers_of(world, "bob")
    item = await create_item(http, name, ada, {"a": 1})
    path = f"/{name}/{item['id']}"

    async def seen_by(headers: dict[str, str]) -> set[int]:
        answers = [
            await http.get(path, headers=headers),
            await http.put(path, headers=headers | {"If-Match": '"99"'}, json={"data": 1}),
            await http.patch(path, headers=headers | MERGE_PATCH, json={}),
            await http.delete(path, headers=headers),
            await http.get(f"/{name}/config", headers=headers),
            await http.post(f"/{name}", headers=headers, json={"data": 1}),
        ]
        return {answer.status_code for answer in answers}

    assert await seen_by(bob) == {404}
    assert await seen_by({}) == {404}
    assert await seen_by({"Authorization": world.token(subject="ada")}) == {404}
    assert (await http.get(path, headers={"Authorization": world.admin})).status_code == 200


async def test_rules_let_in_whom_they_name_and_nobody_else(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, name: str
) -> None:
    ada, bob, carl = headers_of(world, "ada"), headers_of(world, "bob"), headers_of(world, "carl", "orders:write")
    rules = {"read": "public", "create": "authenticated", "update": ["owner", "permission:orders:write"]}
    config = await http.put(f"/{name}", headers=ada, json={"rules": rules})
    item = await create_item(http, name, bob, 1)
    path = f"/{name}/{item['id']}"
    stranger = await http.get(path)
    nobody = await over_nats.call("item", item_object(name, item["id"]), "read", authorization=None)
    theirs = [(await http.put(path, headers=headers, json={"data": 2})).status_code for headers in (ada, bob, carl, {})]
    deletions = [(await http.delete(path, headers=headers)).status_code for headers in (ada, {}, bob)]

    assert config.status_code == 201
    assert stranger.json() == item == nobody
    assert theirs == [403, 200, 200, 403]
    assert deletions == [403, 403, 204]


async def test_a_put_makes_an_item_only_where_it_is_told_that_there_is_none(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    first = {"If-None-Match": "*"}
    await create_item(http, name, ada, 0)
    missing = await http.put(f"/{name}/x", headers=ada, json={"data": 1})
    made_by_put = await http.put(f"/{name}/x", headers=ada | first, json={"data": 1})
    again = await http.put(f"/{name}/x", headers=ada | first, json={"data": 2})
    posted = await http.post(f"/{name}", headers=ada, json={"id": "x", "data": 2})

    assert missing.status_code == 404
    assert (made_by_put.status_code, made_by_put.headers["location"]) == (201, f"/data/collections/{name}/x")
    assert again.status_code == 412
    assert posted.status_code == 409


async def test_a_configuration_is_for_a_new_collection_alone_where_it_says_so(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    answers = [
        await http.put(f"/{name}", headers=headers | {"If-None-Match": "*"}, json={"history": True})
        for headers in (ada, ada, headers_of(world, "bob"))
    ]
    other = await http.put(f"/{name}", headers=ada | {"If-None-Match": '"1"'}, json={})
    config = await http.get(f"/{name}/config", headers=ada)

    assert [answer.status_code for answer in answers] == [201, 412, 404]
    assert other.status_code == 400
    assert config.headers["etag"] == '"1"'


@pytest.mark.parametrize("bad", ["no.pe", "a%20b", "caf%C3%A9", "$where", "x" * 65])
async def test_what_can_not_be_a_name_is_refused_by_its_place(http: httpx2.AsyncClient, world: World, bad: str) -> None:
    ada, item = headers_of(world, "ada"), {"data": 1}
    answers = [
        await http.put(f"/{bad}", headers=ada, json={}),
        await http.post(f"/{bad}", headers=ada, json=item),
        await http.put(f"/{bad}/x", headers=ada | {"If-None-Match": "*"}, json=item),
        await http.put(f"/good/{bad * 2}", headers=ada | {"If-None-Match": "*"}, json=item),
    ]

    assert [answer.status_code for answer in answers] == [422] * 4
    assert [answer.json()["field"] for answer in answers] == ["collection"] * 3 + ["id"]


@pytest.mark.parametrize("filter", ["", "x", "[]", "1", "null", '"a"', "{", "[" * 5000])
async def test_what_is_no_filter_is_refused_as_one(
    http: httpx2.AsyncClient, world: World, name: str, filter: str
) -> None:
    ada = headers_of(world, "ada")
    await http.put(f"/{name}", headers=ada, json={})
    refused = await http.get(f"/{name}", headers=ada, params={"filter": filter})

    assert (refused.status_code, refused.json()["field"]) == (422, "filter")


async def test_a_repeat_of_a_creation_makes_no_second_item(http: httpx2.AsyncClient, world: World, name: str) -> None:
    ada = headers_of(world, "ada") | {"Idempotency-Key": "once"}
    first = await http.post(f"/{name}", headers=ada, json={"data": {"a": 1}})
    repeat = await http.post(f"/{name}", headers=ada, json={"data": {"a": 1}})
    other = await http.post(f"/{name}", headers=ada, json={"data": {"a": 2}})

    assert repeat.content == first.content
    assert (other.status_code, other.json()["code"]) == (422, "request-id-reused")
    assert other.json()["field"] == "Idempotency-Key"


async def test_a_unique_value_belongs_to_one_item_however_many_ask_for_it_at_once(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    await http.put(f"/{name}", headers=ada, json={"unique": ["mail"]})
    answers = await asyncio.gather(
        *(http.post(f"/{name}", headers=ada, json={"data": {"mail": "a@b.c"}}) for _ in range(16))
    )
    first = next(answer.json() for answer in answers if answer.status_code == 201)
    refused = next(answer.json() for answer in answers if answer.status_code != 201)
    path = f"/{name}/{first['id']}"
    elsewhere = await create_item(http, name, ada, {"mail": "other"})
    moved = await http.put(f"/{name}/{elsewhere['id']}", headers=ada, json={"data": {"mail": "a@b.c"}})
    put = await http.put(f"/{name}/x", headers=ada | {"If-None-Match": "*"}, json={"data": {"mail": "a@b.c"}})
    await http.put(path, headers=ada, json={"data": {"mail": None}})
    taken = await create_item(http, name, ada, {"mail": "a@b.c"})
    await http.delete(f"/{name}/{taken['id']}", headers=ada)
    again = await http.put(path, headers=ada, json={"data": {"mail": "a@b.c"}})

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 15
    assert (refused["code"], refused["field"]) == ("exists", "data.mail")
    assert (moved.status_code, put.status_code) == (409, 409)
    assert again.status_code == 200


async def test_history_shows_and_restores_what_was_overwritten_and_deleted(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada, bob = headers_of(world, "ada"), headers_of(world, "bob")
    rules = {"read": "authenticated", "update": "authenticated"}
    await http.put(f"/{name}", headers=ada, json={"history": True, "rules": rules})
    path = f"/{name}/{(await create_item(http, name, ada, {'n': 1}))['id']}"
    await http.put(path, headers=bob, json={"data": {"n": 2}})
    first = await http.get(path, headers=bob, params={"version": 1})
    await http.delete(path, headers=ada)
    gone = await http.get(path, headers=ada)
    deleted = (await http.get(f"{path}/history", headers=ada)).json()
    restored = await http.post(f"{path}/restore", headers=ada, params={"version": 2})
    latest = (await http.get(f"{path}/history", headers=ada, params={"limit": 2})).json()
    rest = (await http.get(f"{path}/history", headers=ada, params={"cursor": latest["next_cursor"]})).json()
    missing = await http.get(path, headers=ada, params={"version": 3})

    assert (first.json()["data"], first.json()["version"], first.headers["etag"]) == ({"n": 1}, 1, '"1"')
    assert gone.status_code == 404
    assert [(entry["version"], entry["author"], entry["deleted"]) for entry in deleted["items"]] == [
        (3, "ada", True),
        (2, "bob", False),
        (1, "ada", False),
    ]
    assert (restored.json()["data"], restored.json()["version"]) == ({"n": 2}, 4)
    assert [entry["version"] for entry in latest["items"] + rest["items"]] == [4, 3, 2, 1]
    assert rest["next_cursor"] is None
    assert missing.status_code == 404


async def test_an_item_that_was_made_anew_shows_nothing_of_the_one_before(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    await http.put(f"/{name}", headers=ada, json={"history": True})
    await create_item(http, name, ada, {"secret": 1}, id="x")
    await http.delete(f"/{name}/x", headers=ada)
    item = await create_item(http, name, ada, {}, id="x")
    history = (await http.get(f"/{name}/x/history", headers=ada)).json()
    before = await http.get(f"/{name}/x", headers=ada, params={"version": 1})

    assert item["version"] == 3
    assert [entry["version"] for entry in history["items"]] == [3]
    assert before.status_code == 404


async def test_what_a_change_of_the_configuration_was_answered_for_is_in_force(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada, bob = headers_of(world, "ada"), headers_of(world, "bob")
    path = f"/{name}/{(await create_item(http, name, ada, 1))['id']}"
    before = await http.get(path, headers=bob)
    shown = (await http.get(f"/{name}/config", headers=ada)).headers["etag"]
    opened = await http.put(f"/{name}", headers=ada | {"If-Match": shown}, json={"rules": {"read": "public"}})
    after = await http.get(path, headers=bob)
    stale = await http.put(f"/{name}", headers=ada | {"If-Match": shown}, json={})
    strict = await http.put(f"/{name}", headers=ada, json={"require_if_match": True})
    closed = await http.get(path, headers=bob)
    blind = await http.put(path, headers=ada, json={"data": 2})
    config = (await http.get(f"/{name}/config", headers=ada)).json()

    assert (before.status_code, after.status_code, closed.status_code) == (404, 200, 404)
    assert (opened.status_code, strict.status_code, stale.status_code) == (200, 200, 412)
    assert (blind.status_code, blind.json()["code"]) == (428, "precondition-required")
    assert (config["name"], config["owner"], config["require_if_match"]) == (name, "ada", True)


async def test_a_field_becomes_unique_only_where_no_two_items_have_a_value_in_common(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    await create_item(http, name, ada, {"mail": "a"}, id="one")
    await create_item(http, name, ada, {"mail": "a"}, id="two")
    refused = await http.put(f"/{name}", headers=ada, json={"unique": ["mail"]})
    free = await http.post(f"/{name}", headers=ada, json={"data": {"mail": "a"}, "id": "three"})
    for id in ("two", "three"):
        await http.put(f"/{name}/{id}", headers=ada, json={"data": {"mail": id}})
    accepted = await http.put(f"/{name}", headers=ada, json={"unique": ["mail"]})
    taken = await http.post(f"/{name}", headers=ada, json={"data": {"mail": "two"}})

    assert refused.status_code == 409
    assert [offender["field"] for offender in refused.json()["extra"]["offenders"]] == ["data.mail"]
    assert free.status_code == 201
    assert accepted.status_code == 200
    assert taken.status_code == 409


async def test_a_schema_that_existing_items_break_is_refused_or_is_for_new_ones_alone(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    await create_item(http, name, ada, {"n": 1}, id="good")
    await create_item(http, name, ada, {"n": "x"}, id="bad")
    refused = await http.put(f"/{name}", headers=ada, json={"schema": schema})
    free = await http.post(f"/{name}", headers=ada, json={"id": "free", "data": {}})
    await http.delete(f"/{name}/free", headers=ada)
    let_off = await http.put(f"/{name}", headers=ada, params={"validate": "new"}, json={"schema": schema})
    broken = await http.post(f"/{name}", headers=ada, json={"data": {"n": "y"}})
    patched = await http.patch(f"/{name}/good", headers=ada | MERGE_PATCH, json={"n": None})
    still = await http.get(f"/{name}/bad", headers=ada)
    shown = (await http.get(f"/{name}/config", headers=ada)).content

    assert refused.status_code == 409
    assert [offender["id"] for offender in refused.json()["extra"]["offenders"]] == ["bad"]
    assert free.status_code == 201
    assert let_off.status_code == 200
    assert (broken.status_code, broken.json()["field"]) == (422, "data.n")
    assert (patched.status_code, still.status_code) == (422, 200)
    assert msgspec.json.encode(schema) in shown


async def test_the_items_of_a_deleted_collection_are_gone_at_once_and_stay_so(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    await create_item(http, name, ada, 1, id="x")
    ended = await http.delete(f"/{name}", headers=ada)
    statuses = [(await http.get(path, headers=ada)).status_code for path in (f"/{name}/x", f"/{name}/config")]
    anew = await http.put(f"/{name}", headers=ada, json={})
    still = await http.get(f"/{name}/x", headers=ada)
    again = await create_item(http, name, ada, 2, id="x")

    assert ended.status_code == 204
    assert statuses == [404, 404]
    assert anew.status_code == 201
    assert still.status_code == 404
    assert again["data"] == 2


async def test_a_list_of_items_is_made_item_by_item(http: httpx2.AsyncClient, world: World, name: str) -> None:
    ada = headers_of(world, "ada") | {"Idempotency-Key": "many"}
    body = [{"data": 1}, {"id": "x", "data": 2}, {"id": "x", "data": 3}, {"id": "config", "data": 4}, {"dada": 5}, 6]
    answer = await http.post(f"/{name}", headers=ada, json=body)
    repeat = await http.post(f"/{name}", headers=ada, json=body)
    results = answer.json()["results"]
    many = await http.post(f"/{name}", headers=headers_of(world, "ada"), json=[{"data": 0}] * 1001)

    assert answer.status_code == 207
    assert [result["status"] for result in results[3:]] == [422, 422, 422]
    assert sorted(result["status"] for result in results[:3]) == [201, 201, 409]
    assert repeat.content == answer.content
    assert (await http.get(f"/{name}/{results[0]['id']}", headers=ada)).json()["data"] == 1
    assert (many.status_code, many.json()["field"]) == (422, "body")


async def test_pages_show_every_item_that_the_caller_may_read_once(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, name: str
) -> None:
    ada, bob = headers_of(world, "ada"), headers_of(world, "bob")
    await http.put(f"/{name}", headers=ada, json={"rules": {"create": "authenticated"}})
    for who, count in ((ada, 7), (bob, 3)):
        await http.post(f"/{name}", headers=who, json=[{"data": {"n": n, "m": 0}} for n in range(count)])

    async def seen_by(headers: dict[str, str]) -> list[int]:
        found: list[int] = []
        cursor = None
        while cursor is not None or not found:
            params = {"limit": "3", "fields": "n", "count": "true"} | ({"cursor": cursor} if cursor else {})
            page = (await http.get(f"/{name}", headers=headers, params=params)).json()
            found += [item["data"]["n"] for item in page["items"]]
            assert all(set(item["data"]) == {"n"} for item in page["items"])
            cursor, count = page["next_cursor"], page["count"]
        assert count == len(found)
        return sorted(found)

    assert await seen_by(ada) == [*range(7)]
    assert await seen_by(bob) == [*range(3)]
    same = await over_nats.query("item", "find", {"collection": name}, authorization=bob["Authorization"])
    assert len(same["items"]) == 3
    assert (await http.get(f"/{name}")).status_code == 404
    assert (await http.get(f"/{name}", headers=ada, params={"limit": 501})).status_code == 422


async def test_the_collections_that_a_caller_may_know_of_are_listed_with_their_counts(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada, bob = headers_of(world, f"ada{name}"), headers_of(world, f"bob{name}")
    rules = {
        "a": {"read": "public"},
        "b": {"read": ["owner", "role:editor"]},
        "c": {"create": ["owner", SALES]},
        "d": {},
    }
    for letter, rule in rules.items():
        await http.put(f"/{letter}{name}", headers=ada, json={"rules": rule})
        await create_item(http, f"{letter}{name}", ada, 1)

    async def seen_by(headers: dict[str, str]) -> dict[str, int]:
        found: dict[str, int] = {}
        cursor: str | None = ""
        while cursor is not None:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await http.get(f"{world.url}/data/collections", headers=headers, params=params)).json()
            found |= {item["name"][0]: item["count"] for item in page["items"] if item["name"].endswith(name)}
            cursor = page["next_cursor"]
        return found

    editor = {"Authorization": world.token("data:read", roles=("editor",), subject="e")}
    seller = {"Authorization": world.token("data:write", "sales:write", subject="s")}
    assert await seen_by(ada) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert await seen_by({}) == await seen_by(bob) == {"a": 1}
    assert await seen_by(editor) == {"a": 1, "b": 1}
    assert await seen_by(seller) == {"a": 1, "c": 0}


async def test_what_was_exported_and_imported_elsewhere_is_exported_in_the_same_bytes(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    data = [{"n": n, "$set": {"a.b": [1.0, 1, "é\u0000", None, 2**63 - 1, -0.0]}, "": {}} for n in range(700)]
    await http.post(f"/{name}", headers=ada, json=[{"data": item} for item in data])
    first = await http.get(f"/{name}/export", headers=ada)
    broken = b'{"id":"x","data":1}\n\n{"id":"x","data":2}\nno json\n'
    imported = await http.post(f"/other{name}/import", headers=ada, content=first.content)
    second = await http.get(f"/other{name}/export", headers=ada)
    results = await http.post(f"/{name}/import", headers=ada, content=broken)

    assert first.headers["content-type"] == "application/x-ndjson"
    assert first.content.count(b"\n") == 700
    assert [msgspec.json.decode(line)["status"] for line in imported.content.splitlines()] == [201] * 700
    assert second.content == first.content
    told = [msgspec.json.decode(line) for line in results.content.splitlines()]
    assert [line["line"] for line in told] == [1, 3, 4]
    assert sorted(line["status"] for line in told) == [201, 400, 409]
    assert (await http.get(f"/no{name}/export", headers=ada)).status_code == 404


async def test_an_item_that_has_expired_is_gone_at_once_and_its_place_is_free(
    http: httpx2.AsyncClient, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    await http.put(f"/{name}", headers=ada, json={"expires_after": 0.4, "unique": ["a"]})
    await create_item(http, name, ada, {"a": 1}, id="x")
    before = await http.get(f"/{name}/x", headers=ada)
    async with asyncio.timeout(1):
        while (after := await http.get(f"/{name}/x", headers=ada)).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    listed = (await http.get(f"/{name}", headers=ada)).json()["items"]
    again = await http.post(f"/{name}", headers=ada, json={"id": "y", "data": {"a": 1}})

    assert (before.status_code, after.status_code, again.status_code) == (200, 404, 201)
    assert listed == []


async def found(http: httpx2.AsyncClient, path: str, headers: dict[str, str], **params: Any) -> list[Any]:
    """Return the data of all items that a query finds, page by page."""
    items: list[Any] = []
    cursor: str | None = None
    while True:
        page = await http.get(path, headers=headers, params=params | ({"cursor": cursor} if cursor else {}))
        assert page.status_code == 200, page.text
        items += [item["data"] for item in page.json()["items"]]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return items


# Filter, sort, and their equivalents in Python.
QUERIES: list[tuple[str, str, Any]] = [
    ("{}", "price", lambda one: True),
    ('{"price":{"gte":3,"lt":15}}', "-price", lambda one: 3 <= one["price"] < 15),
    ('{"kind":{"eq":"a.b"}}', "price", lambda one: one["kind"] == "a.b"),
    ('{"or":[{"price":{"lt":3}},{"kind":{"in":["x"]}}]}', "-price", lambda one: one["price"] < 3 or one["kind"] == "x"),
    ('{"deep.$gt":{"starts_with":"1"}}', "price", lambda one: one["deep"]["$gt"].startswith("1")),
]


@pytest.mark.parametrize("indexes", [[], [["price"], ["kind", "price"]]], ids=["unindexed", "indexed"])
async def test_a_query_finds_what_its_filter_says_in_the_order_that_it_asks_for(
    http: httpx2.AsyncClient, world: World, name: str, indexes: list[list[str]]
) -> None:
    ada = headers_of(world, "ada")
    await http.put(f"/{name}", headers=ada, json={"indexes": indexes})
    data = [{"price": n * 7 % 20, "kind": ("a.b", "x", "$y")[n % 3], "deep": {"$gt": str(n)}} for n in range(20)]
    await http.post(f"/{name}", headers=ada, json=[{"data": item} for item in data])

    for filter, sort, fits in QUERIES:
        fitting = [item for item in data if fits(item)]
        fitting.sort(key=lambda one: one["price"], reverse=sort.startswith("-"))
        assert await found(http, f"/{name}", ada, limit=3, filter=filter, sort=sort) == fitting, filter


async def test_a_cursor_belongs_to_the_query_that_gave_it(http: httpx2.AsyncClient, world: World, name: str) -> None:
    ada = headers_of(world, "ada")
    await http.post(f"/{name}", headers=ada, json=[{"data": {"n": n}} for n in range(5)])
    params = {"limit": "2", "sort": "n"}
    cursor = (await http.get(f"/{name}", headers=ada, params=params)).json()["next_cursor"]
    other = {**params, "sort": "-n"}
    tampered = ("A" if cursor[0] != "A" else "B") + cursor[1:]

    for wrong in (params | {"cursor": tampered}, other | {"cursor": cursor}, {"cursor": "AA"}, {"cursor": "é"}):
        answer = await http.get(f"/{name}", headers=ada, params=wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


@pytest.mark.timeout(90)
async def test_a_new_index_is_filled_and_then_serves_queries(http: httpx2.AsyncClient, world: World, name: str) -> None:
    ada = headers_of(world, "ada")
    items = [await create_item(http, name, ada, {"n": n}, id=str(n)) for n in range(3)]
    await http.put(f"/{name}", headers=ada, json={"indexes": [["-n"]]})
    collection = pymongo.MongoClient[dict[str, Any]](world.servers.mongo_url)[world.database]["obj_item"]

    async def filled() -> bool:
        return collection.count_documents({"state.collection": name, "state.keys.0": {"$exists": True}}) == 3

    await eventually(filled, within=60)
    after = [(await http.get(f"/{name}/{n}", headers=ada)).json() for n in range(3)]

    assert after == items
    assert await found(http, f"/{name}", ada, sort="n", limit=2) == [{"n": n} for n in range(3)]


async def test_of_two_writers_with_one_etag_one_wins(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, name: str
) -> None:
    ada = headers_of(world, "ada")
    id = (await create_item(http, name, ada, 0))["id"]

    async def write(value: int) -> int:
        if value % 2:
            answer = await http.put(f"/{name}/{id}", headers=ada | {"If-Match": '"1"'}, json={"data": value})
            return answer.status_code
        try:
            payload = b'{"data":%d}' % value
            headers = {"If-Match": '"1"'}
            token = ada["Authorization"]
            await over_nats.call(
                "item", item_object(name, id), "replace", payload, authorization=token, headers=headers
            )
        except Failure as failure:
            return failure.status
        return 200

    statuses = await asyncio.gather(*map(write, range(1, 13)))
    item = (await http.get(f"/{name}/{id}", headers=ada)).json()

    assert sorted(statuses) == [200] + [412] * 11
    assert (item["data"], item["version"]) == (statuses.index(200) + 1, 2)


async def test_a_write_tells_of_itself_in_an_event(http: httpx2.AsyncClient, world: World, name: str) -> None:
    ada = headers_of(world, "ada")
    connection = await nats.connect(world.servers.nats_url("client"))
    events = await connection.subscribe(f"event.item.{item_object(name, 'x')}.*")
    await connection.flush()
    await create_item(http, name, ada, 1, id="x")
    await http.patch(f"/{name}/x", headers=ada | MERGE_PATCH, json=2)
    await http.delete(f"/{name}/x", headers=ada)
    told = [await events.next_msg(timeout=5) for _ in range(3)]
    await connection.close()

    assert [event.subject.rpartition(".")[2] for event in told] == ["created", "updated", "deleted"]
    said = [msgspec.json.decode(event.data)["data"] for event in told]
    assert [(each["collection"], each["id"], each["version"], each["owner"]) for each in said] == [
        (name, "x", version, "ada") for version in (1, 2, 3)
    ]


async def test_a_key_that_is_narrowed_to_a_collection_opens_no_other(
    http: httpx2.AsyncClient, world: World, name: str, person: Person
) -> None:
    async with http_client(base_url=world.url, timeout=20) as accounts:
        ada = bearer(await logged_in(accounts, person))
        body = {"name": "k", "scopes": [f"data:read:collection={name}"]}
        made_key = await accounts.post("/api-keys", headers=ada, json=body)
    key = {"Authorization": f"ApiKey {made_key.json()['key']}"}
    await create_item(http, name, ada, 1, id="x")
    await create_item(http, f"other{name}", ada, 1, id="x")

    assert (await http.get(f"/{name}/x", headers=key)).status_code == 200
    assert (await http.get(f"/other{name}/x", headers=key)).status_code == 404
    assert (await http.put(f"/{name}/x", headers=key, json={"data": 2})).status_code == 403
