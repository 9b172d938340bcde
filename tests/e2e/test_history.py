"""The history of objects over HTTP, over NATS and in the Python client, in a fleet with a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pymongo
import pytest

from aidevos import DurableObjectClient, Failure
from tests.support.host_processes import client, eventually
from tests.support.sheets import serving_sheets
from tests.support.world import World


@pytest.fixture(scope="module")
def sheets(world: World) -> Iterator[None]:
    """Serve the type `sheet`."""
    with serving_sheets(world):
        yield


@pytest.fixture
async def caller(world: World, sheets: None) -> AsyncIterator[DurableObjectClient]:
    async with client(world.servers) as (caller, _):
        yield caller


@pytest.fixture
async def admin(world: World, http: httpx2.AsyncClient, caller: DurableObjectClient) -> httpx2.AsyncClient:
    http.headers["Authorization"] = world.admin

    async def is_known() -> bool:
        return (await http.get("/durable-objects", params={"type": "sheet"})).status_code == 200

    await eventually(is_known, 20)
    return http


async def filled(caller: DurableObjectClient, id: str, count: int = 2) -> str:
    for number in range(1, count + 1):
        await caller.call("sheet", id, "add", line=f"{number}")
    return f"/durable-objects/sheet:{id}/versions"


async def test_a_history_is_listed_read_compared_restored_and_forked_over_http(
    admin: httpx2.AsyncClient, caller: DurableObjectClient, new_id: str
) -> None:
    path = await filled(caller, new_id)
    page = (await admin.get(path, params={"limit": 1})).json()
    rest = (await admin.get(path, params={"cursor": page["next_cursor"]})).json()
    assert [each["version"] for each in page["items"] + rest["items"]] == [2, 1]
    assert (page["items"][0]["caller"], page["items"][0]["method"]) == ("tester", "add")
    assert page["items"][0]["request_id"]

    read = await admin.get(f"{path}/1")
    assert (read.headers["etag"], read.json()["state"]) == ('"1"', {"lines": ["1"]})
    patch = (await admin.get(f"{path}/1/patch")).json()
    assert patch == {"before": 1, "after": 2, "patch": [{"op": "add", "path": "/lines/1", "value": "2"}]}
    assert (await admin.get(f"{path}/2/patch", params={"to": "1"})).json()["patch"][0]["op"] == "remove"

    late = await admin.post(f"{path}/1/restore", headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
    keyed = {"Idempotency-Key": f"restore-{new_id}", "If-Match": '"2"'}
    restored = [await admin.post(f"{path}/1/restore", headers=keyed) for _ in range(2)]
    assert [(each.status_code, each.headers["etag"]) for each in restored] == [(200, '"3"')] * 2
    assert restored[1].json()["state"] == {"lines": ["1"]}
    assert (await admin.get(path)).json()["items"][0]["request_id"] == restored[0].headers["x-request-id"]

    keyed = {"Idempotency-Key": f"fork-{new_id}"}
    forked = [await admin.post(f"{path}/2/fork", headers=keyed) for _ in range(2)]
    assert [each.status_code for each in forked] == [201, 201]
    assert forked[0].headers["location"] == forked[1].headers["location"]
    assert forked[0].json()["state"] == {"lines": ["1", "2"]}
    again = await admin.post(f"{path}/2/fork", json={"name": new_id})
    assert (again.status_code, again.json()["code"]) == (409, "exists")


async def test_wrong_requests_are_refused(
    world: World, admin: httpx2.AsyncClient, caller: DurableObjectClient, new_id: str
) -> None:
    path = await filled(caller, new_id)
    for wrong, status in (
        (f"{path}/7", 404),
        (f"{path}/0", 404),
        (f"{path}/x", 404),
        (f"{path}/{10**17}", 404),
        (f"{path}/1/patch?to=x", 422),
        (f"{path}/1/patch?to=9", 404),
        (f"{path}?cursor=x", 422),
        (f"{path}?limit=0", 422),
        ("/durable-objects/sheet:never/versions", 404),
        ("/durable-objects/counter:never/versions", 404),
    ):
        answer = await admin.get(wrong)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), wrong
    reader = {"Authorization": world.token("sheet:write")}
    for refused in (await admin.get(path, headers=reader), await admin.post(f"{path}/1/restore", headers=reader)):
        assert refused.status_code == 403


async def test_the_python_client_reaches_the_history_over_nats(caller: DurableObjectClient, new_id: str) -> None:
    await filled(caller, new_id, 3)
    history = caller.history("sheet", new_id)
    assert [each.version for each in (await history.list()).items] == [3, 2, 1]
    assert (await history.read(1)).state == {"lines": ["1"]}
    assert (await history.compare(3, 2)).patch == [{"op": "remove", "path": "/lines/2"}]
    assert (await history.restore(2, headers={"If-Match": '"3"'})).version == 4
    assert (await history.fork(1, f"{new_id}-fork")).state == {"lines": ["1"]}
    with pytest.raises(Failure) as refused:
        await history.fork(1, f"{new_id}-fork")
    assert refused.value.code == "exists"


async def test_a_history_outlives_memory_and_moves_to_its_collection(
    world: World, caller: DurableObjectClient, new_id: str
) -> None:
    await asyncio.gather(*(caller.call("sheet", new_id, "add", line=f"{n}") for n in range(40)))
    await filled(caller, new_id, 60)
    with pymongo.MongoClient[dict[str, Any]](world.servers.mongo_url) as mongo:
        database = mongo[world.database]

        async def is_hibernated() -> bool:
            page = await caller.query("sheet", "list", limit=500)
            return [each["status"] for each in page["items"] if each["id"] == new_id] == ["hibernated"]

        await eventually(is_hibernated, 20)
        document = database["obj_sheet"].find_one({"_id": new_id})
        assert document is not None
        assert len(document["history"]["entries"]) <= 33
        assert database["history_sheet"].count_documents({"_id.o": new_id}) >= 27

    history = caller.history("sheet", new_id)
    listed = (await history.list(100)).items
    assert [each.version for each in listed] == list(range(100, 40, -1))
    for version in (100, 70, 41):
        state = (await history.read(version)).state
        assert state is not None
        assert len(state["lines"]) == version
