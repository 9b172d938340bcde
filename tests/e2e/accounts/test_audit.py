"""The security log over HTTP and NATS: its entries, its readers, and complete pages without repeats."""

from __future__ import annotations

import asyncio
import json
import secrets
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest

from aidevos.contracts.authentication import account_id, session_of
from aidevos.contracts.errors import Failure
from tests.support.logins import PASSWORD, Person, bearer, logged_in, login, register, wait_until_refused
from tests.support.users import MERGE_PATCH
from tests.support.world import NatsEntryPoint, World

ADDRESS = "127.0.0.1"


async def entries(http: httpx2.AsyncClient, admin: dict[str, str], count: int, **query: str) -> list[dict[str, Any]]:
    """Return the entries, oldest first, once there are at least `count`."""
    items: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        while len(items) < count:
            answer = await http.get("/audit", params={"sort": "at", "limit": "500", **query}, headers=admin)
            assert answer.status_code == 200, answer.text
            items = answer.json()["items"]
    return items


def told(items: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [(item["action"], item["outcome"], item["reason"]) for item in items]


async def test_whatever_happens_to_an_account_leaves_an_entry(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint
) -> None:
    first = await logged_in(http, person)
    id, mine = first["user"]["id"], bearer(first)
    administrator = (await http.get("/auth/me", headers=admin)).json()
    new = "another long secret"
    second, third = (await login(http, person.email)).json(), (await login(http, person.username)).json()
    await http.delete(f"/auth/sessions/{session_of(second['refresh_token'])}", headers=mine)
    await http.delete(f"/users/{id}/sessions/{session_of(third['refresh_token'])}", headers=admin)
    await http.post("/auth/password", headers=mine, json={"current_password": "wrong", "new_password": new})
    await http.post("/auth/password", headers=mine, json={"current_password": PASSWORD, "new_password": new})
    await http.post("/auth/logout", headers=mine)
    fourth = (await login(http, person.username, new)).json()
    await http.post("/auth/refresh", json={"refresh_token": fourth["refresh_token"]})
    newest = (await http.post("/auth/refresh", json={"refresh_token": fourth["refresh_token"]})).json()
    await http.post("/auth/refresh", json={"refresh_token": newest["refresh_token"]})
    await http.post("/auth/refresh", json={"refresh_token": fourth["refresh_token"]})
    fifth = bearer((await login(http, person.username, new)).json())
    await http.patch("/users/me", headers=fifth | MERGE_PATCH, json={"full_name": "By myself"})
    await http.patch(f"/users/{id}", headers=admin | MERGE_PATCH, json={"full_name": "Ada"})
    await http.patch(f"/users/{id}", headers=admin | MERGE_PATCH, json={"roles": ["admin", "user"]})
    await http.post("/auth/logout?all=true", headers=fifth)
    await http.post(f"/users/{id}/deactivate", headers=admin)
    await login(http, person.username, new)
    await http.post(f"/users/{id}/activate", headers=admin)
    await http.delete(f"/users/{id}/sessions", headers=admin)
    await http.delete(f"/users/{id}", headers=admin)

    items = await entries(http, admin, 20, target=id)

    assert told(items) == [
        ("user.registered", "success", ""),
        ("login", "success", ""),
        ("login", "success", ""),
        ("login", "success", ""),
        ("session.ended", "success", ""),
        ("session.ended", "success", ""),
        ("password.changed", "failure", "wrong password"),
        ("password.changed", "success", ""),
        ("logout", "success", ""),
        ("login", "success", ""),
        ("session.revoked", "success", "a refresh token was reused"),
        ("login", "success", ""),
        ("profile.changed", "success", ""),
        ("role.changed", "success", "admin, user"),
        ("sessions.ended", "success", ""),
        ("user.deactivated", "success", ""),
        ("login", "failure", "deactivated"),
        ("user.activated", "success", ""),
        ("sessions.ended", "success", ""),
        ("user.erased", "success", ""),
    ]
    assert {item["address"] for item in items} == {ADDRESS}
    by_administrator = [item for item in items if item["actor"] == administrator["user"]["id"]]
    assert len(by_administrator) == 7
    assert by_administrator[0]["session"] == session_of(third["refresh_token"])
    assert {item["actor"] for item in items} == {id, administrator["user"]["id"], ""}
    assert items[8]["session"] == items[1]["session"] == session_of(first["refresh_token"])
    over = await over_nats.query("audit", "search", {"target": id, "sort": "at"}, authorization=admin["Authorization"])
    assert over["items"] == items


async def test_failed_logins_name_an_account_and_never_what_was_typed(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint
) -> None:
    id = (await register(http, person)).json()["id"]
    typed = f"a-password-as-a-name-{secrets.token_hex(4)}"
    body = json.dumps({"username": typed, "password": "x"}).encode()
    with pytest.raises(Failure):
        await over_nats.call("auth", account_id(typed), "login", body, authorization=None)
    for name in (person.username, person.email):
        assert (await login(http, name, "wrong")).status_code == 401

    unknown = await entries(http, admin, 1, target=account_id(typed))
    known = await entries(http, admin, 3, target=id)

    assert told(unknown) == [("login", "failure", "unknown")]
    assert (unknown[0]["actor"], unknown[0]["address"]) == ("", "")
    assert told(known[1:]) == [("login", "failure", "wrong password")] * 2
    everything = await http.get("/audit?limit=500", headers=admin)
    for word in (typed, person.username, person.email, PASSWORD):
        assert word.lower() not in everything.text.lower()


async def test_a_flood_of_logins_writes_one_entry_for_all_that_were_throttled(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str]
) -> None:
    id = (await register(http, person)).json()["id"]
    statuses = [(await login(http, person.username, "wrong")).status_code for _ in range(15)]

    items = await entries(http, admin, 12, target=id)

    assert statuses == [401] * 10 + [429] * 5
    assert told(items)[1:] == [("login", "failure", "wrong password")] * 10 + [("login", "failure", "throttled")]


async def test_entries_are_found_by_each_filter(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], world: World
) -> None:
    begin = datetime.now(UTC)
    pair = await logged_in(http, person)
    id = pair["user"]["id"]
    await login(http, person.username, "wrong")
    await http.post("/auth/logout", headers=bearer(pair))
    items = await entries(http, admin, 4, target=id)
    moments = [item["at"] for item in items]

    async def shown(**query: str) -> list[str]:
        answer = await http.get("/audit", params={"target": id, **query}, headers=admin)
        assert answer.status_code == 200, answer.text
        return [item["action"] for item in answer.json()["items"]]

    assert moments == sorted(moments)
    assert await shown() == ["logout", "login", "login", "user.registered"]
    assert await shown(action="login") == ["login", "login"]
    assert await shown(action="log*") == ["logout", "login", "login"]
    assert await shown(action="user.*") == ["user.registered"]
    assert await shown(action="login*", outcome="failure") == ["login"]
    assert await shown(actor=id) == ["logout", "login", "user.registered"]
    assert await shown(**{"from": moments[1], "to": moments[3]}) == ["login", "login"]
    assert await shown(to=begin.isoformat().replace("+00:00", "Z")) == []
    reader = {"Authorization": world.token("audit:read")}
    assert (await http.get("/audit", headers=reader)).status_code == 200
    assert (await http.get("/audit", headers=bearer(await logged_in(http, other(person))))).status_code == 403
    assert (await http.get("/audit")).status_code == 401


def other(person: Person) -> Person:
    return Person("x" + person.username, "x" + person.email)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-01-01T00:00:00", "to"),
        ("action=LOGIN", "action"),
        ("outcome=maybe", "outcome"),
        ("sort=actor", "sort"),
        ("cursor=x", "cursor"),
        ("limit=501", "limit"),
        ("x=y", "x"),
    ],
)
async def test_a_bad_filter_is_refused_by_its_name(
    http: httpx2.AsyncClient, admin: dict[str, str], query: str, field: str
) -> None:
    refused = await http.get(f"/audit?{query}", headers=admin)

    assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_an_entry_is_written_and_changed_by_nobody_who_is_a_person(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint
) -> None:
    id = (await register(http, person)).json()["id"]
    (entry,) = await entries(http, admin, 1, target=id)
    for method in ("_replace", "_delete", "record", "expire"):
        body = b"{}"
        if method == "_replace":
            body = b'{"state":{}}'
        if method == "record":
            body = msgspec.json.encode({**{key: entry[key] for key in entry if key not in ("id", "at")}, "at": 0.0})
        with pytest.raises(Failure) as refused:
            await over_nats.call("audit", entry["id"], method, body, authorization=admin["Authorization"])
        assert refused.value.status == 403

    assert await entries(http, admin, 1, target=id) == [entry]


async def test_pages_come_in_order_and_neither_repeat_nor_lose_while_entries_are_written(
    http: httpx2.AsyncClient, admin: dict[str, str], over_nats: NatsEntryPoint, world: World
) -> None:
    actor, service = f"a{secrets.token_hex(4)}", world.token(roles=("service",), subject="service:test")

    async def write(number: int) -> None:
        # Many entries with the same time, so that only their IDs order them.
        entry = {"at": 1000.0 + number // 7, "actor": actor, "action": "tested", "target": str(number)}
        body = msgspec.json.encode({**entry, "outcome": "success", "reason": "", "address": "", "session": ""})
        await over_nats.call("audit", secrets.token_hex(16), "record", body, authorization=service)

    for sort, first, later in (("-at", range(60), range(60, 120)), ("at", range(120, 180), range(180, 240))):
        await asyncio.gather(*map(write, first))
        there = {item["target"] for item in await entries(http, admin, first.stop, actor=actor)}
        writing = asyncio.gather(*map(write, later))
        query, seen = {"actor": actor, "sort": sort, "limit": "7"}, []
        while True:
            page = (await http.get("/audit", params=query, headers=admin)).json()
            seen += page["items"]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        await writing

        keys = [(item["at"], item["id"]) for item in seen]
        assert keys == sorted(keys, reverse=sort == "-at")
        assert len(set(keys)) == len(keys)
        assert there <= {item["target"] for item in seen}


async def test_a_users_sessions_are_shown_and_ended_by_itself_and_administrators_alone(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], world: World
) -> None:
    first = await logged_in(http, person)
    second, third = (await login(http, person.username)).json(), (await login(http, person.email)).json()
    stranger = await logged_in(http, other(person))
    reader = {"Authorization": world.token("users:read")}
    path = f"/users/{first['user']['id']}/sessions"

    shown = (await http.get(path, headers=admin)).json()["items"]
    own = (await http.get("/users/me/sessions", headers=bearer(first))).json()["items"]

    assert {each["id"] for each in shown} == {session_of(pair["refresh_token"]) for pair in (first, second, third)}
    assert [each["id"] for each in own if each["current"]] == [session_of(first["refresh_token"])]
    assert not any(each["current"] for each in shown)
    assert (await http.get(path, headers=reader)).json()["items"] == shown
    for verb, at in (("GET", path), ("DELETE", path), ("DELETE", f"{path}/{shown[0]['id']}")):
        assert (await http.request(verb, at, headers=bearer(stranger))).status_code == 404
        if verb == "DELETE":
            assert (await http.request(verb, at, headers=reader)).status_code == 403
    foreign = session_of(stranger["refresh_token"])
    assert (await http.delete(f"{path}/{foreign}", headers=admin)).status_code == 404
    assert (await http.delete(f"{path}/{session_of(third['refresh_token'])}", headers=admin)).status_code == 204
    await wait_until_refused(http, third)
    assert (await http.get("/users/me", headers=bearer(second))).status_code == 200
    assert (await http.delete("/users/me/sessions", headers=bearer(first))).status_code == 204
    await wait_until_refused(http, first)
    await wait_until_refused(http, second)
    assert (await http.get("/users/me", headers=bearer(stranger))).status_code == 200
