"""The erasure of users: nothing personal is left at rest, their names are free, and nobody is locked out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import bson
import httpx2
import nats
import pymongo
import pytest

from aidevos.contracts import subjects
from aidevos.durable.turns.completion import CHOSEN_IN_DOCUMENT
from tests.support.logins import (
    PASSWORD,
    Person,
    admin_password,
    bearer,
    logged_in,
    login,
    register,
    wait_until_refused,
)
from tests.support.users import MERGE_PATCH
from tests.support.world import NatsEntryPoint, World

FULL_NAME, THEME = "Augusta Ada Zzyzx", "quite personal"


async def erase(http: httpx2.AsyncClient, who: dict[str, str], id: str = "me", **body: str) -> httpx2.Response:
    return await http.request("DELETE", f"/users/{id}", headers=who, json=body)


async def register_when_free(http: httpx2.AsyncClient, person: Person) -> dict[str, Any]:
    """Register a user with both names, which must be free within a second."""
    async with asyncio.timeout(1):
        while (made := await register(http, person)).status_code != 201:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return dict(made.json())


async def test_a_user_goes_with_the_password_and_its_names_are_free(http: httpx2.AsyncClient, person: Person) -> None:
    pair = await logged_in(http, person)
    other = (await login(http, person.email)).json()

    erased = await erase(http, bearer(pair), password=PASSWORD)

    assert (erased.status_code, erased.content) == (204, b"")
    await wait_until_refused(http, pair)
    await wait_until_refused(http, other)
    refreshed = await http.post("/auth/refresh", json={"refresh_token": other["refresh_token"]})
    assert (refreshed.status_code, (await login(http, person.username)).status_code) == (401, 401)
    assert (await register_when_free(http, person))["id"] != pair["user"]["id"]
    assert (await login(http, person.email)).status_code == 200


@pytest.mark.parametrize(("body", "status"), [({}, 422), ({"password": "wrong"}, 401), ({"x": "y"}, 422)])
async def test_nobody_goes_without_the_right_password(
    http: httpx2.AsyncClient, person: Person, body: dict[str, str], status: int
) -> None:
    pair = await logged_in(http, person)

    assert (await erase(http, bearer(pair), **body)).status_code == status
    assert (await http.get("/users/me", headers=bearer(pair))).json() == pair["user"]


async def test_others_are_erased_by_administrators_alone_and_once(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], world: World
) -> None:
    pair = await logged_in(http, person)
    id = pair["user"]["id"]
    stranger = bearer(await logged_in(http, Person("x" + person.username, "x" + person.email)))
    reader = {"Authorization": world.token("users:read")}

    assert (await erase(http, stranger, id, password=PASSWORD)).status_code == 404
    assert (await erase(http, reader, id)).status_code == 403
    assert (await erase(http, admin, id)).status_code == 204
    assert (await erase(http, admin, id)).status_code == 204
    assert (await erase(http, admin, "0" * 32)).status_code == 404
    for verb, path in (("GET", ""), ("PUT", ""), ("POST", "/activate"), ("GET", "/sessions"), ("DELETE", "/sessions")):
        assert (await http.request(verb, f"/users/{id}{path}", headers=admin, json={})).status_code == 404
    found = (await http.get("/users", params={"q": person.username}, headers=admin)).json()["items"]
    assert [user["id"] for user in found if user["id"] == id] == []


async def test_an_erased_id_is_nobodys_again(
    http: httpx2.AsyncClient, person: Person, over_nats: NatsEntryPoint
) -> None:
    pair = await logged_in(http, person)
    id = pair["user"]["id"]
    await erase(http, bearer(pair), password=PASSWORD)

    body = {"username": f"y{person.username}", "email": f"y{person.email}", "password": PASSWORD}
    with pytest.raises(Exception, match="exists or has been erased"):
        await over_nats.call("user", id, "register", json.dumps(body).encode(), authorization=None)


async def test_the_last_administrator_keeps_the_role_and_stays_active(
    http: httpx2.AsyncClient, admin: dict[str, str]
) -> None:
    demoted = await http.patch("/users/me", headers=admin | MERGE_PATCH, json={"roles": ["user"]})
    deactivated = await http.post("/users/me/deactivate", headers=admin)

    assert (demoted.status_code, demoted.json()["code"]) == (409, "conflict")
    assert (deactivated.status_code, deactivated.json()["code"]) == (409, "conflict")
    assert (await http.get("/users/me", headers=admin)).status_code == 200


async def test_the_last_administrator_stays_and_another_may_go(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], world: World
) -> None:
    last = await erase(http, admin, password=admin_password(world))
    pair = await logged_in(http, person)
    path = f"/users/{pair['user']['id']}"
    await http.patch(path, headers=admin | MERGE_PATCH, json={"roles": ["admin"]})
    second = (await login(http, person.username)).json()
    gone = await erase(http, bearer(second), password=PASSWORD)
    again = await erase(http, admin, password=admin_password(world))

    assert (last.status_code, last.json()["code"]) == (409, "conflict")
    assert gone.status_code == 204
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_nothing_personal_is_left_at_rest(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], world: World
) -> None:
    pair = await logged_in(http, person)
    id = pair["user"]["id"]
    profile = {"full_name": FULL_NAME, "settings": {"theme": THEME}}
    for number in range(CHOSEN_IN_DOCUMENT + 30):
        key = {"Idempotency-Key": f'"{number}"'}
        assert (await http.put("/users/me", headers=bearer(pair) | key, json=profile)).status_code == 200
    await login(http, person.email, "not the password")
    assert FULL_NAME in (before := at_rest(world, FULL_NAME))
    assert "replies_user" in before
    await erase(http, bearer(pair), password=PASSWORD)

    personal = (person.username, person.email, FULL_NAME, THEME)
    async with asyncio.timeout(5):
        while any(at_rest(world, word) for word in personal):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    told = await events(world, id)
    entries = (await http.get("/audit", params={"target": id}, headers=admin)).json()["items"]

    assert f"event.user.{id}.deleted" in [subject for subject, _ in told]
    assert not any(word.lower() in data.lower() for word in personal for _, data in told)
    assert entries[0]["action"] == "user.erased"
    assert not any(word.lower() in repr(entries).lower() for word in personal)


def at_rest(world: World, word: str) -> str:
    """Return one line for each document that contains the word."""
    client: Any = pymongo.MongoClient(world.servers.mongo_url)
    found = []
    with client:
        database = client[world.database]
        for name in database.list_collection_names():
            for document in database[name].find():
                raw = bson.encode(document)
                if word.lower().encode() in raw.lower():
                    found.append(f"{name}: {document['_id']}: {word}")
    return "\n".join(found)


async def events(world: World, id: str) -> list[tuple[str, str]]:
    """Return the user's events and all others that the stream now holds."""
    connection = await nats.connect(world.servers.nats_url("fleet"))
    js = connection.jetstream()
    last = (await js.stream_info(subjects.EVENTS_STREAM)).state.last_seq
    everything = await js.subscribe("", stream=subjects.EVENTS_STREAM, ordered_consumer=True)
    found, sequence = [], 0
    while sequence < last:
        message = await everything.next_msg(timeout=15)
        sequence = message.metadata.sequence.stream
        found.append((message.subject, message.data.decode()))
    await connection.close()
    return found


async def test_a_login_beside_an_erasure_opens_no_session_that_stays(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str]
) -> None:
    pair = await logged_in(http, person)
    logins = [asyncio.create_task(login(http, name)) for name in [person.username, person.email] * 4]
    erased = await erase(http, admin, pair["user"]["id"])
    answers = await asyncio.gather(*logins)

    assert erased.status_code == 204
    assert {answer.status_code for answer in answers} <= {200, 401}
    for opened in (answer.json() for answer in answers if answer.status_code == 200):
        await wait_until_refused(http, opened)
        refreshed = await http.post("/auth/refresh", json={"refresh_token": opened["refresh_token"]})
        assert refreshed.status_code == 401
