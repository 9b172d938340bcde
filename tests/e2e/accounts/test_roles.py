"""Custom roles over HTTP and NATS: their permissions, immediate effect on issued tokens, and restarts."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import msgspec
import pytest

from aidevos.contracts.errors import Failure
from tests.support.gateways import another_gateway
from tests.support.http import http_client
from tests.support.logins import Person, bearer, logged_in
from tests.support.users import MERGE_PATCH, allowed, wait_for_access
from tests.support.world import NatsEntryPoint, World

YES, NO = {"http": True, "nats": True}, {"http": False, "nats": False}


@pytest.fixture
def name() -> str:
    return f"r{secrets.token_hex(6)}"


async def give(http: httpx2.AsyncClient, admin: dict[str, str], pair: dict[str, Any], *roles: str) -> httpx2.Response:
    return await http.patch(f"/users/{pair['user']['id']}", headers=admin | MERGE_PATCH, json={"roles": roles})


async def test_a_role_is_made_shown_replaced_and_deleted_under_its_etag(
    http: httpx2.AsyncClient, admin: dict[str, str], name: str
) -> None:
    body = {"name": name, "permissions": ["users:read", "data:read", "data:read"], "description": "Reads"}
    made = await http.post("/roles", headers=admin, json=body)
    path = made.headers["location"]
    read = await http.get(path, headers=admin)
    known = await http.get(path, headers=admin | {"If-None-Match": read.headers["etag"]})
    current, stale = {"If-Match": made.headers["etag"]}, {"If-Match": '"999"'}
    refused = await http.put(path, headers=admin | stale, json={"permissions": []})
    replaced = await http.put(path, headers=admin | current, json={"permissions": ["users:read"]})
    kept = await http.delete(path, headers=admin | current)
    again = await http.post("/roles", headers=admin, json=body)
    gone = await http.delete(path, headers=admin | {"If-Match": replaced.headers["etag"]})

    assert (made.status_code, path) == (201, f"/roles/{name}")
    assert made.json() | {"version": 0, "created_at": "", "updated_at": ""} == {
        "name": name,
        "permissions": ["data:read", "users:read"],
        "description": "Reads",
        "builtin": False,
        "version": 0,
        "created_at": "",
        "updated_at": "",
    }
    assert (read.json(), read.headers["etag"]) == (made.json(), made.headers["etag"])
    assert known.status_code == 304
    assert (refused.status_code, kept.status_code, again.status_code) == (412, 412, 409)
    assert (replaced.json()["permissions"], replaced.json()["description"]) == (["users:read"], "")
    assert (gone.status_code, (await http.get(path, headers=admin)).status_code) == (204, 404)


async def test_roles_are_listed_by_name_page_by_page_over_http_and_nats(
    http: httpx2.AsyncClient, admin: dict[str, str], over_nats: NatsEntryPoint, name: str
) -> None:
    for number in range(3):
        await http.post("/roles", headers=admin, json={"name": f"{name}{number}", "permissions": []})
    names: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while query:
        page = (await http.get("/roles", params=query, headers=admin)).json()
        names += [role["name"] for role in page["items"]]
        query = {"limit": "2", "cursor": page["next_cursor"]} if page["next_cursor"] else {}
    told = await over_nats.query("role", "search", {"limit": 500}, authorization=admin["Authorization"])

    assert names == sorted(names) == [role["name"] for role in told["items"]]
    assert {"admin", "service", "user", f"{name}0", f"{name}1", f"{name}2"} <= set(names)


async def test_what_a_role_allows_changes_over_http_and_nats_within_a_second_for_tokens_that_are_out(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint, name: str
) -> None:
    pair = await logged_in(http, person)
    path = f"/roles/{name}"
    await http.post("/roles", headers=admin, json={"name": name, "permissions": ["users:read"]})
    assert (await give(http, admin, pair, "user", name)).status_code == 200
    await wait_for_access(http, over_nats, pair, YES)
    me = (await http.get("/auth/me", headers=bearer(pair))).json()
    for permissions, outcome in ([], NO), (["users:read"], YES), (["audit:read"], NO):
        assert (await http.put(path, headers=admin, json={"permissions": permissions})).status_code == 200
        await wait_for_access(http, over_nats, pair, outcome)
    in_use = await http.delete(path, headers=admin)
    await give(http, admin, pair, "user")
    deleted = await http.delete(path, headers=admin)

    assert "users:read" in me["permissions"]
    assert (in_use.status_code, in_use.json()["code"]) == (409, "conflict")
    assert deleted.status_code == 204
    assert await allowed(http, over_nats, pair) == NO


async def test_a_gateway_and_a_host_that_start_later_know_what_a_role_allows(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint, name: str, world: World
) -> None:
    await http.post("/roles", headers=admin, json={"name": name, "permissions": ["users:read"]})
    pair = await logged_in(http, person)
    await give(http, admin, pair, "user", name)
    await wait_for_access(http, over_nats, pair, YES)
    world.restart("user_management")

    async def answers(client: httpx2.AsyncClient) -> int:
        return (await client.get("/users?limit=1", headers=bearer(pair))).status_code

    with another_gateway(world) as url:
        async with http_client(base_url=url, timeout=20) as later:
            assert await first_settled_answer(lambda: answers(later)) == 200
            await http.put(f"/roles/{name}", headers=admin, json={"permissions": []})
            async with asyncio.timeout(1):
                while await answers(later) != 403:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


async def first_settled_answer(answers: Callable[[], Awaitable[int]]) -> int:
    """Return the first answer that is not 503, because role permissions may not be known at once."""
    async with asyncio.timeout(5):
        while (status := await answers()) == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return status


async def test_whoever_manages_roles_and_users_gets_no_further_by_it(
    http: httpx2.AsyncClient, person: Person, admin: dict[str, str], over_nats: NatsEntryPoint, name: str
) -> None:
    own = ["roles:manage", "users:manage", "users:read"]
    await http.post("/roles", headers=admin, json={"name": name, "permissions": own})
    pair = await logged_in(http, person)
    await give(http, admin, pair, "user", name)
    await wait_for_access(http, over_nats, pair, YES)
    mine = bearer(pair)
    admin_id = (await http.get("/users/me", headers=admin)).json()["id"]

    refused = [
        await give(http, mine, pair, "user", name, "admin"),
        await http.put(f"/users/{pair['user']['id']}", headers=mine, json={"roles": ["admin"]}),
        await http.put(f"/roles/{name}", headers=mine, json={"permissions": [*own, "audit:read"]}),
        await http.post("/roles", headers=mine, json={"name": f"{name}2", "permissions": ["audit:read"]}),
        await http.patch(f"/users/{admin_id}", headers=mine | MERGE_PATCH, json={"roles": ["user"]}),
        await http.post(f"/users/{admin_id}/deactivate", headers=mine),
    ]
    everything = await http.post("/roles", headers=mine, json={"name": f"{name}2", "permissions": ["*"]})
    for method, args in (("create", {"permissions": ["audit:read"]}), ("replace", {"permissions": ["x:y"]})):
        payload = msgspec.json.encode(args)
        target = name if method == "replace" else f"{name}2"
        with pytest.raises(Failure) as caught:
            await over_nats.call("role", target, method, payload, authorization=mine["Authorization"])
        assert caught.value.code == "forbidden"
    within = await http.post("/roles", headers=mine, json={"name": f"{name}2", "permissions": ["users:read"]})

    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert everything.status_code == 422
    assert within.status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Clerk", "permissions": []}, "name"),
        ({"name": "clerk", "permissions": ["data:read", "*"]}, "permissions[1]"),
        ({"name": "clerk", "permissions": ["data:read:collection=orders"]}, "permissions[0]"),
        ({"name": "clerk"}, "permissions"),
        ({"name": "clerk", "permissions": [], "builtin": True}, "builtin"),
    ],
)
async def test_a_bad_role_names_the_field(
    http: httpx2.AsyncClient, admin: dict[str, str], body: dict[str, Any], field: str
) -> None:
    refused = await http.post("/roles", headers=admin, json=body)

    assert (refused.status_code, refused.json()["field"]) == (422, field)
