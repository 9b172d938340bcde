"""Delegations over HTTP and NATS: a host accepts one for its own call, and nothing accepts it otherwise."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from aidevos.contracts.errors import Failure
from aidevos.security.delegations import DelegatedCall, Delegations, Mandate
from tests.support.kits import failure
from tests.support.logins import bearer, logged_in, new_person
from tests.support.world import NatsEntryPoint, World

PAYLOAD = b'{"by":2}'


@pytest.fixture
def delegation(world: World, new_id: str) -> str:
    """Return a delegation for a permitted user to count by two, once."""
    issuer = Delegations(world.issuer.keys, world.servers.public_url, "events")
    call = DelegatedCall(f"do.counter.{new_id}.increment", PAYLOAD, f"r{new_id}")
    return issuer.authorization(Mandate(f"ada{new_id}", ("admin",)), call)


async def refused(
    over_nats: NatsEntryPoint, id: str, method: str, payload: bytes, authorization: str, request: str
) -> bool:
    with pytest.raises(Failure) as caught:
        await over_nats.call(
            "counter", id, method, payload, authorization=authorization, headers={"Request-Id": request}
        )
    return caught.value.code == "unauthenticated"


async def test_a_host_takes_it_for_its_call_and_a_repeat_changes_nothing(
    over_nats: NatsEntryPoint, delegation: str, new_id: str
) -> None:
    headers = {"Request-Id": f"r{new_id}"}
    results = [
        await over_nats.call("counter", new_id, "increment", PAYLOAD, authorization=delegation, headers=headers)
        for _ in range(3)
    ]
    assert results == [2, 2, 2]


async def test_a_repeat_for_somebody_else_changes_nothing_either(
    over_nats: NatsEntryPoint, world: World, delegation: str, new_id: str
) -> None:
    issuer = Delegations(world.issuer.keys, world.servers.public_url, "events")
    call = DelegatedCall(f"do.counter.{new_id}.increment", PAYLOAD, f"r{new_id}")
    another = issuer.authorization(Mandate(f"bob{new_id}", ("admin",)), call)
    headers = {"Request-Id": f"r{new_id}"}
    results = [
        await over_nats.call("counter", new_id, "increment", PAYLOAD, authorization=each, headers=headers)
        for each in (delegation, another)
    ]
    assert results == [2, 2]


async def test_hosts_refuse_it_for_any_other_call(
    over_nats: NatsEntryPoint, world: World, delegation: str, new_id: str
) -> None:
    request = f"r{new_id}"
    assert await refused(over_nats, f"{new_id}b", "increment", PAYLOAD, delegation, request)
    assert await refused(over_nats, new_id, "value", PAYLOAD, delegation, request)
    assert await refused(over_nats, new_id, "increment", b'{"by":3}', delegation, request)
    assert await refused(over_nats, new_id, "increment", PAYLOAD, delegation, "another")
    for type, query in (("counter", "list"), ("audit", "search")):
        with pytest.raises(Failure) as caught:
            await over_nats.query(type, query, {}, authorization=delegation)
        assert caught.value.code == "unauthenticated"
    assert await over_nats.call("counter", new_id, "value", authorization=world.admin) == 0


async def test_one_for_an_api_key_is_refused_soon_after_the_key_was_revoked(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, new_id: str
) -> None:
    ada = bearer(await logged_in(http, new_person()))
    body = {"name": "k", "scopes": ["data:read"]}
    key = (await http.post("/api-keys", headers=ada, json=body)).json()["id"]
    call = DelegatedCall(f"do.counter.{new_id}.increment", PAYLOAD, f"r{new_id}")
    mandate = Mandate(f"ada{new_id}", ("admin",), key=key, scopes=("counter:write",))
    delegation = Delegations(world.issuer.keys, world.servers.public_url, "events").authorization(mandate, call)
    headers = {"Request-Id": f"r{new_id}"}

    async def repeat() -> None:
        async with asyncio.timeout(1):
            while True:
                await over_nats.call("counter", new_id, "increment", PAYLOAD, authorization=delegation, headers=headers)

    assert await over_nats.call("counter", new_id, "increment", PAYLOAD, authorization=delegation, headers=headers)
    assert (await http.delete(f"/api-keys/{key}", headers=ada)).status_code == 204

    assert (await failure(repeat())).code == "unauthenticated"


async def test_the_gateway_refuses_it_even_for_its_call(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, delegation: str, new_id: str
) -> None:
    headers = {"Authorization": delegation, "Idempotency-Key": f"r{new_id}"}
    body = {"method": "increment", "args": {"by": 2}}
    answers = [
        await http.post(f"/durable-objects/counter:{new_id}/request", headers=headers, json=body),
        await http.get("/users/me", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert await over_nats.call("counter", new_id, "value", authorization=world.admin) == 0
