"""Dead letters over HTTP and NATS: listed, shown, replayed, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import nats
import pytest
from nats.aio.client import Client

from aidevos.contracts.errors import Failure
from tests.support.letters import bury, read_until
from tests.support.logins import bearer, logged_in, login, new_person
from tests.support.world import NatsEntryPoint, World


@pytest.fixture
async def connection(world: World) -> AsyncIterator[Client]:
    connection = await nats.connect(world.servers.nats_url("client"))
    yield connection
    await connection.close()


@pytest.fixture
def admin(world: World) -> dict[str, str]:
    return {"Authorization": world.admin}


def dead(letter: dict[str, Any]) -> bool:
    return bool(letter["status"] == "dead" and letter["replays"])


def replayed(letter: dict[str, Any]) -> bool:
    return bool(letter["status"] == "replayed")


async def value(over_nats: NatsEntryPoint, world: World, id: str) -> Any:
    return await over_nats.call("counter", id, "value", authorization=world.admin)


async def test_a_letter_is_listed_shown_and_deleted_over_http_and_nats(
    world: World,
    http: httpx2.AsyncClient,
    over_nats: NatsEntryPoint,
    connection: Client,
    admin: dict[str, str],
    new_id: str,
) -> None:
    await bury(world, connection, new_id, f"do.counter.{new_id}.increment")

    page = (await http.get("/dead-letters", params={"source": f"counter:{new_id}"}, headers=admin)).json()
    shown = await http.get(f"/dead-letters/{new_id}", headers=admin)
    assert [item["id"] for item in page["items"]] == [new_id]
    assert page["items"][0] == shown.json() | {"args": None}
    assert shown.json()["args"] == {"by": 3}
    assert shown.headers["etag"] == '"1"'
    known = await http.get(f"/dead-letters/{new_id}", headers=admin | {"If-None-Match": '"1"'})
    assert known.status_code == 304
    asked = {"source": f"counter:{new_id}", "kind": "tell", "status": "dead"}
    over = await over_nats.query("dead_letter", "search", asked, authorization=world.admin)
    assert over["items"] == page["items"]
    assert await over_nats.call("dead_letter", new_id, "read", authorization=world.admin) == shown.json()

    stale = await http.delete(f"/dead-letters/{new_id}", headers=admin | {"If-Match": '"7"'})
    gone = [await http.delete(f"/dead-letters/{new_id}", headers=admin) for _ in range(2)]
    assert (stale.status_code, *(answer.status_code for answer in gone)) == (412, 204, 404)
    assert (await http.get("/dead-letters", params={"source": f"counter:{new_id}"}, headers=admin)).json() == {
        "items": [],
        "next_cursor": None,
    }
    assert await audited(http, admin, new_id, 1) == ["dead_letter.deleted"]


async def test_a_replay_is_applied_once_and_there_is_no_second_one(
    world: World,
    http: httpx2.AsyncClient,
    over_nats: NatsEntryPoint,
    connection: Client,
    admin: dict[str, str],
    new_id: str,
) -> None:
    await bury(world, connection, new_id, f"do.counter.{new_id}.increment")

    asked = [http.post(f"/dead-letters/{new_id}/replay", headers=admin) for _ in range(8)]
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*asked))
    letter = await read_until(http, admin, new_id, replayed)
    again = await http.post(f"/dead-letters/{new_id}/replay", headers=admin)

    assert statuses == [202] + 7 * [409]
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert (letter["replays"], letter["replayed_by"], letter["args"]) == (1, "admin", None)
    assert await value(over_nats, world, new_id) == 3
    assert await audited(http, admin, new_id, 1) == ["dead_letter.replayed"]


async def test_a_replay_that_fails_shows_the_new_failure(
    world: World,
    http: httpx2.AsyncClient,
    over_nats: NatsEntryPoint,
    connection: Client,
    admin: dict[str, str],
    new_id: str,
) -> None:
    await bury(world, connection, new_id, f"do.account.{new_id}.withdraw")

    begun = await over_nats.call("dead_letter", new_id, "replay", authorization=world.admin)
    letter = await read_until(http, admin, new_id, dead)

    assert begun["status"] == "replaying"
    assert (letter["code"], letter["attempts"], letter["args"]) == ("unknown-method", 2, {"by": 3})


async def test_what_a_client_has_sent_is_replayed_with_the_rights_of_a_user(
    world: World,
    http: httpx2.AsyncClient,
    over_nats: NatsEntryPoint,
    connection: Client,
    admin: dict[str, str],
    new_id: str,
) -> None:
    """First by a user who may replay but not count, then by one who may do both, with a restricted API key and by
    login."""
    role = f"r{new_id}"
    keeper = await logged_in(http, person := new_person())
    path = f"/users/{keeper['user']['id']}"

    async def may(*permissions: str) -> None:
        body = {"permissions": list(permissions)}
        made = await http.post("/roles", headers=admin, json={"name": role, **body})
        if made.status_code == 409:
            made = await http.put(f"/roles/{role}", headers=admin, json=body)
        assert made.is_success, made.text

    async def replay(headers: dict[str, str], number: int) -> dict[str, Any]:
        answer = await http.post(f"/dead-letters/{new_id}/replay", headers=headers)
        assert answer.status_code == 202, answer.text
        return await read_until(
            http, admin, new_id, lambda letter: letter["replays"] == number and letter["status"] != "replaying"
        )

    await may("dead_letters:manage")
    patch = {"Content-Type": "application/merge-patch+json"}
    given = await http.patch(path, headers=admin | patch, json={"roles": ["user", role]})
    assert given.status_code == 200
    mine = bearer((await login(http, person.username)).json())
    await bury(world, connection, new_id, f"do.counter.{new_id}.increment", from_client=True)

    assert (await replay(mine, 1))["code"] == "forbidden"
    await may("dead_letters:manage", "counter:write")
    body = {"name": "k", "scopes": ["dead_letters:manage"]}
    key = await http.post("/api-keys", headers=mine, json=body)
    assert key.status_code == 201, key.text
    assert (await replay({"X-Api-Key": key.json()["key"]}, 2))["code"] == "forbidden"
    assert await value(over_nats, world, new_id) == 0
    letter = await replay(mine, 3)
    assert (letter["status"], letter["replayed_by"]) == ("replayed", keeper["user"]["id"])
    assert await value(over_nats, world, new_id) == 3


@pytest.mark.parametrize("query", ["kind=letter", "status=none", "sort=kind", "to=today", "limit=0", "colour=red"])
async def test_a_wrong_filter_is_refused(http: httpx2.AsyncClient, admin: dict[str, str], query: str) -> None:
    refused = await http.get(f"/dead-letters?{query}", headers=admin)
    assert (refused.status_code, refused.json()["field"]) == (422, query.partition("=")[0])


async def test_there_is_no_other_letter(http: httpx2.AsyncClient, admin: dict[str, str], new_id: str) -> None:
    for id in (new_id, "a%20b"):
        for verb, path in (("GET", ""), ("POST", "/replay"), ("DELETE", "")):
            answer = await http.request(verb, f"/dead-letters/{id}{path}", headers=admin)
            assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_nobody_else_buries_or_settles(over_nats: NatsEntryPoint, world: World, new_id: str) -> None:
    for method in ("bury", "settle", "contents", "expire"):
        with pytest.raises(Failure) as caught:
            await over_nats.call("dead_letter", new_id, method, authorization=world.admin)
        assert caught.value.code == "forbidden"


async def audited(http: httpx2.AsyncClient, admin: dict[str, str], target: str, count: int) -> list[str]:
    """Return the actions on this target in the security log, once there are at least `count`."""
    async with asyncio.timeout(20):
        while True:
            found = (await http.get("/audit", params={"target": target}, headers=admin)).json()["items"]
            if len(found) >= count:
                return [entry["action"] for entry in found]
            await asyncio.sleep(0.05)
