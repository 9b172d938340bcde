"""Profiles over HTTP, and administrators who end a user's access."""

from __future__ import annotations

import httpx2
import pytest

from aidevos.security.permissions import ROLES
from tests.support.logins import PASSWORD, Person, bearer, logged_in, login, register, wait_until_refused
from tests.support.users import MERGE_PATCH, allowed, wait_for_access
from tests.support.world import NatsEntryPoint, World


async def test_ones_own_profile_is_replaced_and_patched_under_its_etag(
    http: httpx2.AsyncClient, person: Person
) -> None:
    mine = bearer(await logged_in(http, person))
    read = await http.get("/users/me", headers=mine)

    replaced = await http.put(
        "/users/me",
        headers=mine | {"If-Match": read.headers["etag"]},
        json={"full_name": "Ada", "settings": {"theme": "dark", "mail": {"daily": True, "weekly": True}}},
    )
    stale = await http.put("/users/me", headers=mine | {"If-Match": read.headers["etag"]}, json={})
    patched = await http.patch(
        "/users/me",
        headers=mine | MERGE_PATCH | {"If-Match": replaced.headers["etag"]},
        content=b'{"settings":{"theme":null,"mail":{"daily":false}}}',
    )

    assert replaced.json()["full_name"] == "Ada"
    assert stale.status_code == 412
    assert patched.json()["settings"] == {"mail": {"daily": False, "weekly": True}}
    assert patched.json()["full_name"] == "Ada"
    again = await http.get("/users/me", headers=mine)
    assert (again.json(), again.headers["etag"]) == (patched.json(), patched.headers["etag"])
    same = await http.get("/users/me", headers=mine | {"If-None-Match": again.headers["etag"]})
    assert same.status_code == 304


@pytest.mark.parametrize(
    ("patch", "status", "field"),
    [
        (b'{"roles":["admin"]}', 403, None),
        (b'{"status":"deactivated"}', 403, None),
        (b'{"roles":["No Name"]}', 422, "roles[0]"),
        (b'{"username":"other"}', 422, "username"),
        (b'{"full_name":7}', 422, "full_name"),
        (b'{"roles":null}', 422, "roles"),
        (b"[]", 422, "body"),
        (b"{", 400, "body"),
    ],
)
async def test_what_a_user_may_not_patch_is_refused_by_its_name(
    http: httpx2.AsyncClient, person: Person, patch: bytes, status: int, field: str | None
) -> None:
    mine = bearer(await logged_in(http, person))

    refused = await http.patch("/users/me", headers=mine | MERGE_PATCH, content=patch)

    assert (refused.status_code, refused.json().get("field")) == (status, field)


async def test_a_patch_of_another_kind_is_told_which_is_taken(http: httpx2.AsyncClient, person: Person) -> None:
    mine = bearer(await logged_in(http, person))

    refused = await http.patch("/users/me", headers=mine, json={"full_name": "Ada"})

    assert refused.status_code == 415
    assert refused.headers["accept-patch"] == "application/merge-patch+json"


async def test_a_profile_can_be_changed_by_its_user_and_administrators_alone(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], world: World
) -> None:
    pair = await logged_in(http, person)
    stranger = bearer(await logged_in(http, Person("x" + person.username, "x" + person.email)))
    reader = {"Authorization": world.token("users:read")}
    path = f"/users/{pair['user']['id']}"

    assert (await http.put(path, headers=stranger, json={})).status_code == 404
    assert (await http.put(path, headers=reader, json={})).status_code == 403
    assert (await http.post(f"{path}/deactivate", headers=stranger)).status_code == 403
    assert (await http.put(path, headers=admin, json={"full_name": "By admin"})).json()["full_name"] == "By admin"
    assert (await http.put(f"/users/{'0' * 32}", headers=admin, json={})).status_code == 404


async def test_a_deactivated_user_is_out_within_a_second_until_activated(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str]
) -> None:
    pair = await logged_in(http, person)
    path = f"/users/{pair['user']['id']}"

    deactivated = await http.post(f"{path}/deactivate", headers=admin)
    await wait_until_refused(http, pair)
    refreshed = await http.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    right, wrong = await login(http, person.username), await login(http, person.username, "wrong")
    activated = await http.post(f"{path}/activate", headers=admin)

    assert deactivated.json()["status"] == "deactivated"
    assert refreshed.status_code == 401
    assert (right.status_code, right.text) == (wrong.status_code, wrong.text)
    assert activated.json()["status"] == "active"
    assert (await login(http, person.username)).status_code == 200


async def test_a_changed_role_counts_over_http_and_nats_within_a_second_for_tokens_that_are_out(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint
) -> None:
    pair = await logged_in(http, person)
    path = f"/users/{pair['user']['id']}"
    before = await allowed(http, over_nats, pair)

    await http.patch(path, headers=admin | MERGE_PATCH, json={"roles": ["admin", "user"]})
    await wait_for_access(http, over_nats, pair, {"http": True, "nats": True})
    promoted = (await http.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})).json()
    at_promotion = await allowed(http, over_nats, promoted)
    await http.patch(path, headers=admin | MERGE_PATCH, json={"roles": ["user"]})
    for tokens in (promoted, pair):
        await wait_for_access(http, over_nats, tokens, {"http": False, "nats": False})
    me = (await http.get("/auth/me", headers=bearer(promoted))).json()
    refreshed = await http.post("/auth/refresh", json={"refresh_token": promoted["refresh_token"]})

    assert before == {"http": False, "nats": False}
    assert at_promotion == {"http": True, "nats": True}
    assert me["user"]["roles"] == ["user"]
    assert me["permissions"] == sorted(ROLES["user"])
    assert (refreshed.status_code, refreshed.json()["user"]["roles"]) == (200, ["user"])
    assert await allowed(http, over_nats, refreshed.json()) == {"http": False, "nats": False}


@pytest.mark.parametrize("role", ["service", "nobody"])
async def test_a_role_that_there_is_not_for_users_is_refused_by_its_place(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], role: str
) -> None:
    pair = await logged_in(http, person)

    refused = await http.patch(
        f"/users/{pair['user']['id']}", headers=admin | MERGE_PATCH, json={"roles": ["user", role]}
    )

    assert (refused.status_code, refused.json()["field"]) == (422, "roles[1]")


async def test_a_password_in_another_users_name_changes_nothing(http: httpx2.AsyncClient, person: Person) -> None:
    assert (await register(http, person, password=PASSWORD)).status_code == 201
    assert (await register(http, person, password="another password")).status_code == 409
    assert (await login(http, person.username, "another password")).status_code == 401


async def test_users_are_found_page_by_page_by_those_who_may_read_them(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint
) -> None:
    names = [f"{person.username}{number}" for number in range(5)]
    for name in names:
        assert (await register(http, Person(name, f"{name}@example.org"))).status_code == 201
    own = bearer((await login(http, names[0])).json())
    query = {"q": person.username.upper(), "sort": "-username", "limit": "2", "role": "user", "status": "active"}

    found, cursors = [], []
    while True:
        page = (await http.get("/users", params=query, headers=admin)).json()
        found += [user["username"] for user in page["items"]]
        if page["next_cursor"] is None:
            break
        cursors.append(query.setdefault("cursor", ""))
        query["cursor"] = page["next_cursor"]
    first = (await http.get(f"/users?q={names[0]}", headers=admin)).json()["items"]
    told = await over_nats.query("user", "search", {"q": names[0]}, authorization=admin["Authorization"])

    assert found == sorted(names, reverse=True)
    assert len(cursors) == 2
    assert told["items"] == first == [(await http.get("/users/me", headers=own)).json()]
    assert (await http.get("/users", headers=own)).status_code == 403
    assert (await http.get("/users")).status_code == 401


@pytest.mark.parametrize(
    ("query", "field"),
    [("sort=password", "sort"), ("role=Root", "role"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("x=y", "x")],
)
async def test_a_bad_search_names_the_parameter(
    http: httpx2.AsyncClient, admin: dict[str, str], query: str, field: str
) -> None:
    refused = await http.get(f"/users?{query}", headers=admin)

    assert (refused.status_code, refused.json()["field"]) == (422, field)
