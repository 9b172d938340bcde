"""API keys over HTTP and NATS: scopes, addresses, expiry, and how soon a revoked key is refused."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import bson
import httpx2
import pymongo
import pytest

from aidevos.contracts.errors import Failure
from tests.support.host_processes import eventually
from tests.support.world import NatsEntryPoint, World

PASSWORD = "wheelbarrow at noon"
SCOPES = ["profile:self", "counter:read", "counter:write"]


class Owner(NamedTuple):
    http: httpx2.AsyncClient
    id: str
    token: dict[str, str]

    async def make(self, *scopes: str, **more: Any) -> dict[str, Any]:
        body = {"name": "ci", "scopes": list(scopes or SCOPES), **more}
        answer = await self.http.post("/api-keys", json=body, headers=self.token)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
async def owner(world: World, http: httpx2.AsyncClient) -> Owner:
    """Register a user with a role that may use counters."""
    name = f"ada{secrets.token_hex(6)}"
    person = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    user = (await http.post("/auth/register", json=person)).json()
    permissions = ["counter:read", "counter:write", "objects:request", "keys:self", "profile:self"]
    admin = {"Authorization": world.admin}
    await http.post("/roles", json={"name": "counting", "permissions": permissions}, headers=admin)
    patch = {"Authorization": world.admin, "Content-Type": "application/merge-patch+json"}
    (await http.patch(f"/users/{user['id']}", json={"roles": ["counting"]}, headers=patch)).raise_for_status()
    pair = (await http.post("/auth/login", json={"username": name, "password": PASSWORD})).json()
    return Owner(http, user["id"], {"Authorization": f"Bearer {pair['access_token']}"})


def shown(key: dict[str, Any]) -> str:
    return f"ApiKey {key['key']}"


async def status(http: httpx2.AsyncClient, key: dict[str, Any], **headers: str) -> int:
    return (await http.get("/users/me", headers={"Authorization": shown(key), **headers})).status_code


async def test_a_key_is_shown_once_and_known_by_its_hint(owner: Owner) -> None:
    key = await owner.make()

    read = (await owner.http.get(f"/api-keys/{key['id']}", headers=owner.token)).json()
    page = (await owner.http.get("/api-keys", headers=owner.token)).json()
    assert key["key"].startswith("adk_")
    assert key["hint"] in key["key"]
    assert read == {name: value for name, value in key.items() if name != "key"}
    assert page["items"] == [read]
    assert read["last_used_at"] is None


async def test_a_repeat_with_an_idempotency_key_makes_no_second_key(owner: Owner) -> None:
    body = {"name": "ci", "scopes": SCOPES}
    headers = {**owner.token, "Idempotency-Key": secrets.token_hex(8)}
    first = await owner.http.post("/api-keys", json=body, headers=headers)
    second = await owner.http.post("/api-keys", json=body, headers=headers)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len((await owner.http.get("/api-keys", headers=owner.token)).json()["items"]) == 1


@pytest.mark.parametrize(
    ("header", "scheme"), [("Authorization", "ApiKey "), ("Authorization", "Bearer "), ("X-Api-Key", "")]
)
async def test_a_key_acts_for_its_owner_over_http(owner: Owner, header: str, scheme: str) -> None:
    key = await owner.make()

    me = await owner.http.get("/users/me", headers={header: scheme + key["key"]})

    assert (me.status_code, me.json()["id"]) == (200, owner.id)


async def test_a_key_knows_whom_it_acts_for_and_what_it_may_do(owner: Owner) -> None:
    full, narrow = await owner.make(), await owner.make("counter:read:id=clicks")

    seen, little = [
        (await owner.http.get("/auth/me", headers={"X-Api-Key": key["key"]})).json() for key in (full, narrow)
    ]

    own = (await owner.http.get("/auth/me", headers=owner.token)).json()
    assert (seen["user"], seen["key"], seen["session"], seen["mfa"]) == (own["user"], full["id"], None, None)
    assert (set(seen["permissions"]), own["key"]) == (set(SCOPES), None)
    assert (little["user"]["id"], little["user"]["email"]) == (owner.id, None)
    assert little["permissions"] == ["counter:read:id=clicks"]


async def test_a_key_is_valid_over_nats(owner: Owner, over_nats: NatsEntryPoint, new_id: str) -> None:
    key = await owner.make()

    for number, scheme in enumerate(("ApiKey", "Bearer"), 1):
        authorization = f"{scheme} {key['key']}"
        assert await over_nats.call("counter", new_id, "increment", authorization=authorization) == number
    with pytest.raises(Failure, match="API key"):
        await over_nats.call("counter", new_id, "increment", authorization=shown(key)[:-1] + "~")


async def test_a_key_allows_no_more_than_its_scopes(owner: Owner, over_nats: NatsEntryPoint, new_id: str) -> None:
    key = await owner.make("counter:read")

    assert await over_nats.call("counter", new_id, "value", authorization=shown(key)) == 0
    with pytest.raises(Failure, match="counter:write"):
        await over_nats.call("counter", new_id, "increment", authorization=shown(key))
    assert await status(owner.http, key) in (403, 404)
    made = await owner.http.post("/api-keys", json={"name": "x", "scopes": ["*"]}, headers={"X-Api-Key": key["key"]})
    assert made.status_code == 403


async def test_a_scope_is_narrowed_to_one_object(owner: Owner, over_nats: NatsEntryPoint, new_id: str) -> None:
    key = await owner.make(f"counter:write:id={new_id}")

    assert await over_nats.call("counter", new_id, "increment", authorization=shown(key)) == 1
    with pytest.raises(Failure, match="counter:write"):
        await over_nats.call("counter", f"{new_id}x", "increment", authorization=shown(key))


async def test_nobody_gives_a_key_more_than_they_have(owner: Owner) -> None:
    body = {"name": "x", "scopes": ["counter:read", "users:manage"]}
    answer = await owner.http.post("/api-keys", json=body, headers=owner.token)

    assert (answer.status_code, answer.json()["field"]) == (403, "scopes[1]")


async def test_what_the_owner_loses_the_key_loses(
    world: World, owner: Owner, over_nats: NatsEntryPoint, new_id: str
) -> None:
    key = await owner.make()
    await over_nats.call("counter", new_id, "increment", authorization=shown(key))
    patch = {"Authorization": world.admin, "Content-Type": "application/merge-patch+json"}
    await owner.http.patch(f"/users/{owner.id}", json={"roles": ["user"]}, headers=patch)

    async def refused() -> bool:
        try:
            await over_nats.call("counter", new_id, "increment", authorization=shown(key))
        except Failure as failure:
            return failure.code == "forbidden"
        return False

    await eventually(refused, within=1.0)
    assert await status(owner.http, key) == 200


@pytest.mark.parametrize("end", ["revoke", "deactivate", "rotate"])
async def test_a_key_that_was_ended_is_dead_within_a_second_over_http_and_nats(
    world: World, owner: Owner, over_nats: NatsEntryPoint, new_id: str, end: str
) -> None:
    key = await owner.make()
    await over_nats.call("counter", new_id, "increment", authorization=shown(key))
    assert await status(owner.http, key) == 200
    if end == "revoke":
        answer = await owner.http.delete(f"/api-keys/{key['id']}", headers=owner.token)
    elif end == "rotate":
        answer = await owner.http.post(f"/api-keys/{key['id']}/rotate", headers=owner.token)
    else:
        answer = await owner.http.post(f"/users/{owner.id}/deactivate", headers={"Authorization": world.admin})
    assert answer.is_success, answer.text

    async def dead() -> bool:
        try:
            await over_nats.call("counter", new_id, "value", authorization=shown(key))
        except Failure as failure:
            return failure.status == 401 and await status(owner.http, key) == 401
        return False

    await eventually(dead, within=1.0)


async def test_after_a_rotation_both_keys_work_for_the_overlap(owner: Owner) -> None:
    former = await owner.make()
    answer = await owner.http.post(f"/api-keys/{former['id']}/rotate", json={"overlap": 60}, headers=owner.token)
    key = answer.json()

    assert key["key"] != former["key"]
    assert (await status(owner.http, former), await status(owner.http, key)) == (200, 200)


async def test_a_key_works_from_its_addresses_alone(owner: Owner, over_nats: NatsEntryPoint, new_id: str) -> None:
    here = await owner.make(allowed_addresses=["127.0.0.0/8"])
    elsewhere = await owner.make(allowed_addresses=["192.0.2.0/24", "2001:db8::/32"])

    assert (await status(owner.http, here), await status(owner.http, elsewhere)) == (200, 401)
    with pytest.raises(Failure, match="address"):
        await over_nats.call("counter", new_id, "value", authorization=shown(here))


async def test_a_key_can_t_have_expired_already(owner: Owner) -> None:
    past = {"name": "x", "scopes": SCOPES, "expires_at": "2020-01-01T00:00:00Z"}
    refused = await owner.http.post("/api-keys", json=past, headers=owner.token)

    assert (refused.status_code, refused.json()["field"]) == (422, "expires_at")


async def test_a_key_is_changed_by_a_merge_patch_and_the_change_counts_within_a_second(owner: Owner) -> None:
    key = await owner.make()
    assert await status(owner.http, key) == 200
    headers = {**owner.token, "Content-Type": "application/merge-patch+json", "If-Match": '"1"'}
    answer = await owner.http.patch(
        f"/api-keys/{key['id']}", json={"scopes": ["counter:read"], "name": "new"}, headers=headers
    )
    stale = await owner.http.patch(f"/api-keys/{key['id']}", json={"name": "x"}, headers=headers)

    assert (answer.status_code, answer.json()["name"], answer.headers["etag"]) == (200, "new", '"2"')
    assert stale.status_code == 412

    async def refused() -> bool:
        return await status(owner.http, key) != 200

    await eventually(refused, within=1.0)


async def test_a_key_is_nobody_elses(world: World, owner: Owner, http: httpx2.AsyncClient) -> None:
    key = await owner.make()
    other = {"Authorization": world.token("keys:self", subject="other")}

    assert (await http.get(f"/api-keys/{key['id']}", headers=other)).status_code == 404
    assert (await http.delete(f"/api-keys/{key['id']}", headers=other)).status_code == 404
    assert (await http.get(f"/api-keys?owner={owner.id}", headers=other)).json()["items"] == []
    everyones = await http.get(f"/api-keys?owner={owner.id}", headers={"Authorization": world.admin})
    assert [item["id"] for item in everyones.json()["items"]] == [key["id"]]


async def test_two_credentials_at_once_are_refused(owner: Owner) -> None:
    key = await owner.make()

    assert (await owner.http.get("/users/me", headers={**owner.token, "X-Api-Key": key["key"]})).status_code == 400


async def test_no_key_is_at_rest(world: World, owner: Owner) -> None:
    key = await owner.make()
    assert await status(owner.http, key) == 200

    with pymongo.MongoClient[dict[str, Any]](world.servers.mongo_url) as client:
        database = client[world.database]
        for name in database.list_collection_names():
            for document in database[name].find():
                assert key["key"].encode() not in bson.encode(document)


async def test_an_erased_user_s_keys_go_with_it(world: World, owner: Owner) -> None:
    key = await owner.make()
    assert await status(owner.http, key) == 200
    admin = {"Authorization": world.admin}
    assert (await owner.http.delete(f"/users/{owner.id}", headers=admin)).status_code == 204

    async def gone() -> bool:
        return (await owner.http.get(f"/api-keys/{key['id']}", headers=admin)).status_code == 404

    await eventually(gone)
    assert await status(owner.http, key) == 401
    with pymongo.MongoClient[dict[str, Any]](world.servers.mongo_url) as client:
        assert "state" not in (client[world.database]["obj_api_key"].find_one({"_id": key["id"]}) or {})
