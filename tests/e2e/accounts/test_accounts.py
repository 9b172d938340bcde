"""Accounts over HTTP and NATS: registration, logins, refresh rotation, sessions and their end."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import msgspec
import pytest

from aidevos.contracts import envelope, subjects
from aidevos.contracts.authentication import account_id, session_of
from aidevos.contracts.errors import Failure
from tests.support.logins import (
    PASSWORD,
    Person,
    admin_password,
    bearer,
    logged_in,
    login,
    register,
    status_of,
    wait_until_refused,
)
from tests.support.world import NatsEntryPoint, World


async def test_a_new_user_is_shown_without_a_secret_and_can_log_in_by_either_name(
    http: httpx2.AsyncClient, person: Person
) -> None:
    made = await register(http, person, full_name="Ada L.")

    assert made.status_code == 201, made.text
    user = made.json()
    assert made.headers["location"] == f"/users/{user['id']}"
    assert set(user) == {
        "id",
        "username",
        "email",
        "full_name",
        "roles",
        "status",
        "email_verified",
        "settings",
        "version",
        "created_at",
        "updated_at",
    }
    assert user["roles"] == ["user"]
    for name in (person.username, person.username.upper(), person.email, person.email.upper()):
        pair = (await login(http, name)).json()
        assert pair["user"] == user
        assert (pair["token_type"], pair["expires_in"]) == ("Bearer", 600)
        assert (await http.get("/users/me", headers=bearer(pair))).json() == user


async def test_a_name_is_taken_without_regard_to_case_and_the_other_name_stays_free(
    http: httpx2.AsyncClient, person: Person
) -> None:
    assert (await register(http, person)).status_code == 201

    same_email = await register(http, Person(person.username + "b", person.email.upper()))
    same_name = await register(http, Person(person.username.upper(), "b" + person.email))
    afterwards = await register(http, Person(person.username + "b", "b" + person.email))

    assert (same_email.status_code, same_email.json()["field"]) == (409, "email")
    assert (same_name.status_code, same_name.json()["field"]) == (409, "username")
    assert afterwards.status_code == 201


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "too short"}, "password"),
        ({"password": "x" * 129}, "password"),
        ({"password": "123456qwerty"}, "password"),
        ({"email": "nobody"}, "email"),
        ({"email": "a b@example.org"}, "email"),
        ({"username": "a@b"}, "username"),
        ({"username": ""}, "username"),
        ({"admin": "yes"}, "admin"),
    ],
)
async def test_a_bad_registration_names_the_field(
    http: httpx2.AsyncClient, person: Person, changes: dict[str, str], field: str
) -> None:
    refused = await register(http, person, **changes)

    assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert refused.headers["content-type"] == "application/problem+json"


async def test_ones_own_names_are_no_password(http: httpx2.AsyncClient, person: Person) -> None:
    for own in person:
        assert (await register(http, person, password=own)).status_code == 422


async def test_ten_failures_in_a_minute_throttle_an_account_by_either_name(
    http: httpx2.AsyncClient, person: Person
) -> None:
    await register(http, person)
    failed = [(await login(http, name, "wrong")).status_code for name in (person.username, person.email) * 5]

    refused = await login(http, person.username)

    assert failed == [401] * 10
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60


async def test_a_client_that_comes_over_nats_can_t_name_an_address(over_nats: NatsEntryPoint, person: Person) -> None:
    await over_nats.call(
        "user",
        subjects.new_id(),
        "register",
        msgspec.json.encode({"username": person.username, "email": person.email, "password": PASSWORD}),
        authorization=None,
    )
    pair = await over_nats.call(
        "auth",
        account_id(person.username),
        "login",
        msgspec.json.encode({"username": person.username, "password": PASSWORD}),
        authorization=None,
        headers={envelope.CLIENT_ADDRESS: "192.0.2.1"},
    )

    session = session_of(pair["refresh_token"])
    page = await over_nats.call("session", session, "sessions", authorization=f"Bearer {pair['access_token']}")
    assert [item["address"] for item in page["items"]] == [""]


async def test_a_refresh_gives_a_new_pair_and_its_repeat_the_same_one(http: httpx2.AsyncClient, person: Person) -> None:
    first = await logged_in(http, person)

    answers = await asyncio.gather(
        *(http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]}) for _ in range(20))
    )
    pairs = {answer.text for answer in answers}

    assert {answer.status_code for answer in answers} == {200}
    assert len(pairs) == 1
    second = answers[0].json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert await status_of(http, second) == 200


async def test_a_spent_token_whose_successor_was_used_ends_the_session(
    http: httpx2.AsyncClient, person: Person
) -> None:
    first = await logged_in(http, person)
    second = (await http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
    third = (await http.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})).json()

    reused = await http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})

    assert reused.status_code == 401
    await wait_until_refused(http, third)
    assert (await http.post("/auth/refresh", json={"refresh_token": third["refresh_token"]})).status_code == 401


async def test_an_invented_refresh_token_ends_nothing(http: httpx2.AsyncClient, person: Person) -> None:
    pair = await logged_in(http, person)
    session = session_of(pair["refresh_token"])

    for invented in ("x", "a.b.c", f"{session}.0.{'A' * 43}", f"{session}.7.{'A' * 43}", f"{'0' * 32}.0.{'A' * 43}"):
        assert (await http.post("/auth/refresh", json={"refresh_token": invented})).status_code == 401

    assert await status_of(http, pair) == 200


async def test_a_logout_ends_one_session_or_all(http: httpx2.AsyncClient, person: Person) -> None:
    first = await logged_in(http, person)
    second, third = [(await login(http, person.username)).json() for _ in range(2)]

    assert (await http.post("/auth/logout", headers=bearer(first))).status_code == 204
    await wait_until_refused(http, first)
    assert (await http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).status_code == 401
    assert await status_of(http, second) == 200

    assert (await http.post("/auth/logout?all=true", headers=bearer(second))).status_code == 204
    await wait_until_refused(http, second)
    await wait_until_refused(http, third)


async def test_sessions_are_listed_and_ended_by_their_user_alone(http: httpx2.AsyncClient, person: Person) -> None:
    mine = await logged_in(http, person)
    other = (await login(http, person.username)).json()
    stranger = await logged_in(http, Person("x" + person.username, "x" + person.email))
    other_id = session_of(other["refresh_token"])

    listed = (await http.get("/auth/sessions", headers=bearer(mine))).json()["items"]
    foreign = await http.delete(f"/auth/sessions/{other_id}", headers=bearer(stranger))
    ended = await http.delete(f"/auth/sessions/{other_id}", headers=bearer(mine))

    assert {item["id"]: item["current"] for item in listed} == {
        session_of(mine["refresh_token"]): True,
        other_id: False,
    }
    assert all(item["device"].startswith("python-httpx2") for item in listed)
    assert foreign.status_code == 404
    assert ended.status_code == 204
    await wait_until_refused(http, other)
    left = (await http.get("/auth/sessions", headers=bearer(mine))).json()["items"]
    assert [item["current"] for item in left] == [True]
    assert await status_of(http, mine) == 200


async def test_a_new_password_ends_the_other_sessions_and_the_old_password(
    http: httpx2.AsyncClient, person: Person
) -> None:
    mine = await logged_in(http, person)
    other = (await login(http, person.username)).json()

    async def change(current: str, new: str) -> httpx2.Response:
        body = {"current_password": current, "new_password": new}
        return await http.post("/auth/password", headers=bearer(mine), json=body)

    wrong = await change("not the password", "another wheelbarrow")
    refused = [await change(PASSWORD, new) for new in ("short", person.email)]
    assert await status_of(http, other) == 200
    changed = await change(PASSWORD, "another wheelbarrow")

    assert wrong.status_code == 401
    assert [(answer.status_code, answer.json()["field"]) for answer in refused] == [(422, "new_password")] * 2
    assert (changed.status_code, changed.json()) == (200, {"api_keys": [], "webhooks": [], "revoked": False})
    await wait_until_refused(http, other)
    assert await status_of(http, mine) == 200
    assert (await login(http, person.username)).status_code == 401
    assert (await login(http, person.email, "another wheelbarrow")).status_code == 200


async def test_me_tells_user_permissions_and_session(http: httpx2.AsyncClient, person: Person) -> None:
    pair = await logged_in(http, person)

    told = (await http.get("/auth/me", headers=bearer(pair))).json()

    assert told["user"] == pair["user"]
    assert told["session"] == session_of(pair["refresh_token"])
    assert "profile:self" in told["permissions"]
    assert "*" not in told["permissions"]


async def test_a_users_profile_is_not_there_for_others(world: World, http: httpx2.AsyncClient, person: Person) -> None:
    pair = await logged_in(http, person)
    stranger = await logged_in(http, Person("x" + person.username, "x" + person.email))
    path = f"/users/{pair['user']['id']}"

    assert (await http.get(path, headers=bearer(pair))).status_code == 200
    assert (await http.get(path, headers=bearer(stranger))).status_code == 404
    assert (await http.get(path, headers={"Authorization": world.admin})).status_code == 200
    assert (await http.get(path)).status_code == 401


async def test_the_first_administrator_can_log_in(world: World, http: httpx2.AsyncClient) -> None:
    answer = await login(http, "admin", admin_password(world))

    assert answer.status_code == 200
    assert answer.json()["user"]["roles"] == ["admin"]
    listed = await http.get("/durable-objects?type=auth", headers=bearer(answer.json()))
    assert listed.status_code == 200
    assert {item["state"] for item in listed.json()["items"]} == {None}


async def test_the_key_set_is_public(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/.well-known/jwks.json")

    assert answer.status_code == 200
    assert {frozenset(key) for key in answer.json()["keys"]} == {frozenset({"kty", "crv", "x", "kid", "use", "alg"})}
    assert answer.headers["cache-control"] == "public, max-age=60"


async def test_all_of_it_works_over_nats(over_nats: NatsEntryPoint, person: Person) -> None:
    user_id = subjects.new_id()
    account = account_id(person.username)

    async def call(type: str, id: str, method: str, pair: Any = None, **args: str) -> Any:
        token = f"Bearer {pair['access_token']}" if pair else None
        return await over_nats.call(type, id, method, msgspec.json.encode(args), authorization=token)

    user = await call("user", user_id, "register", username=person.username, email=person.email, password=PASSWORD)
    pair = await call("auth", account, "login", username=person.username, password=PASSWORD, device="nats")
    session = session_of(pair["refresh_token"])
    again = await call("session", session, "refresh", refresh_token=pair["refresh_token"])
    me = await call("session", session, "me", again)
    listed = await call("session", session, "sessions", again)
    read = await call("user", user_id, "read", again)
    await call("session", session, "end", again)

    assert user == pair["user"] == me["user"] == read
    assert [item["device"] for item in listed["items"]] == ["nats"]
    async with asyncio.timeout(1):
        while True:
            try:
                await call("session", session, "me", again)
            except Failure as failure:
                if failure.status == 401:
                    break
            await asyncio.sleep(0.01)
    with pytest.raises(Failure) as wrong:
        await call("auth", account, "login", username=person.username, password="wrong")
    assert wrong.value.status == 401
