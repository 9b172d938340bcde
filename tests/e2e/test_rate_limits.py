"""Rate limits over HTTP and NATS, their headers, and the policies that an administrator sets."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from aidevos.contracts.errors import Failure
from tests.support.api_keys import key_of
from tests.support.host_processes import eventually
from tests.support.http import blocking_http_client
from tests.support.world import NatsEntryPoint, World


@pytest.fixture
def policies(world: World) -> Iterator[Any]:
    """Return a function that sets policies, and remove them afterwards."""
    with blocking_http_client(base_url=world.url, headers={"Authorization": world.admin}, timeout=20) as client:

        def put(policies: Any, **headers: str) -> httpx2.Response:
            return client.put("/rate-limits", json={"policies": policies}, headers=headers)

        yield put
        put({})


async def test_five_a_minute_are_five_over_http_and_nats_together(
    world: World, http: httpx2.AsyncClient, over_nats: NatsEntryPoint, new_id: str
) -> None:
    key = await key_of(world, http, rate=5, window=60)
    answers = [await http.get("/users/me", headers={"Authorization": key}) for _ in range(3)]
    for _ in range(2):
        await over_nats.call("counter", new_id, "increment", authorization=key)
    refused = await http.get("/users/me", headers={"Authorization": key})

    assert [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers] == [
        f'"key";r={left}' for left in (4, 3, 2)
    ]
    assert answers[0].headers["ratelimit-policy"] == '"key";q=5;w=60'
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert refused.headers["ratelimit"].startswith('"key";r=0;t=')
    told = int(refused.headers["ratelimit"].rpartition("=")[2])
    assert told <= int(refused.headers["retry-after"]) <= 12
    with pytest.raises(Failure, match="limit") as raised:
        await over_nats.call("counter", new_id, "increment", authorization=key)
    assert (raised.value.code, raised.value.retry_after is not None) == ("rate-limited", True)


async def test_items_cost_their_caller_s_limit(world: World, http: httpx2.AsyncClient, new_id: str) -> None:
    """The limit is overdrawn by the second batch of the import, and not made up for within the test."""
    key = {"Authorization": await key_of(world, http, rate=150, window=3600)}
    items = f"/data/collections/c{new_id}"
    page = await http.get("/roles?limit=500", headers=key)
    bulk = await http.post(items, json=[{"data": number} for number in range(20)], headers=key)
    single = await http.get("/roles", headers=key)
    imported = await http.post(f"{items}/import", content=b'{"data":1}\n' * 3000, headers=key)
    refused = await http.get("/roles", headers=key)

    told = [re.fullmatch(r'"key";r=(\d+);t=\d+;cost=(\d+)', each.headers["ratelimit"]) for each in (page, bulk, single)]
    assert [match and match.groups() for match in told] == [("140", "10"), ("120", "20"), ("119", "1")]
    results = [json.loads(line) for line in imported.text.splitlines()]
    assert [result["status"] for result in results] == [201] * 128 + [429] * (3000 - 128)
    assert results[-1]["problem"]["code"] == "rate-limited"
    assert (refused.status_code, refused.headers["ratelimit"].endswith(";cost=0")) == (429, True)


async def test_a_page_costs_its_caller_s_limit_over_nats(
    world: World, http: httpx2.AsyncClient, over_nats: NatsEntryPoint
) -> None:
    key = await key_of(world, http, rate=5, window=3600)
    await over_nats.query("role", "search", {"limit": 500}, authorization=key)
    with pytest.raises(Failure, match="limit"):
        await over_nats.query("role", "search", {}, authorization=key)


async def test_every_answer_under_a_limit_tells_it(world: World, http: httpx2.AsyncClient) -> None:
    for path, headers, policy in (
        ("/users/me", {"Authorization": world.admin}, "default"),
        ("/durable-objects/counter:no such", {"Authorization": world.admin}, "default"),
        ("/users/me", {}, "anonymous"),
        ("/users/me", {"Authorization": "Bearer x"}, "anonymous"),
    ):
        answer = await http.get(path, headers=headers)
        assert answer.headers["ratelimit-policy"] == f'"{policy}";q=2000;w=2', path
    assert "ratelimit" in (await http.post("/auth/login", json={})).headers
    assert "ratelimit" not in (await http.get("/health/live")).headers


async def test_a_policy_counts_within_a_second_and_is_gone_within_another(
    world: World, http: httpx2.AsyncClient, policies: Any
) -> None:
    headers = {"Authorization": world.token(roles=("admin",), subject=f"admin-{secrets.token_hex(4)}")}

    async def under(policy: str) -> bool:
        answer = await http.get("/roles", headers=headers)
        return answer.headers["ratelimit-policy"].startswith(f'"{policy}"')

    assert policies({"people": {"rate": 50, "window": 60, "applies_to": ["users", "roles", "user"]}}).status_code == 200
    await eventually(lambda: under("people"), within=1.0)
    started = time.monotonic()
    statuses = [(await http.get("/roles", headers=headers)).status_code for _ in range(60)]
    regained = int((time.monotonic() - started) * 50 / 60) + 1
    assert statuses.count(200) in range(45, 51 + regained)
    assert (await http.get("/audit", headers=headers)).status_code == 200
    policies({})
    await eventually(lambda: under("default"), within=1.0)


async def test_policies_are_shown_and_changed_by_version(world: World, http: httpx2.AsyncClient, policies: Any) -> None:
    first = policies({"default": {"rate": 5000, "burst": 9000}})
    stale = policies({}, **{"If-Match": '"999"'})
    shown = await http.get("/rate-limits", headers={"Authorization": world.admin})

    assert (first.status_code, stale.status_code) == (200, 412)
    assert shown.json()["policies"]["default"] == {"rate": 5000, "window": 1.0, "burst": 9000, "applies_to": []}
    assert shown.headers["etag"] == first.headers["etag"]
    forbidden = await http.get("/rate-limits", headers={"Authorization": world.token("users:read")})
    assert forbidden.status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"default": {"rate": 0}},
        {"default": {"rate": 1, "applies_to": ["users"]}},
        {"a": {"rate": 1, "applies_to": ["users"]}, "b": {"rate": 1, "applies_to": ["users"]}},
        {"Ä": {"rate": 1}},
        {"a": {"rate": 1, "window": 0}},
        {"a": {"rate": 1, "surprise": 1}},
    ],
    ids=str,
)
async def test_a_policy_that_makes_no_sense_is_refused(policies: Any, wrong: Any) -> None:
    answer = policies(wrong)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["field"].startswith("policies")


async def test_services_have_no_limit_and_a_callers_word_for_its_address_is_not_taken(
    world: World, over_nats: NatsEntryPoint, policies: Any, new_id: str
) -> None:
    policies({"anonymous": {"rate": 1, "window": 60}})
    service = world.token("counter:write", roles=("service",), subject="service:tester")

    for _ in range(5):
        await over_nats.call("counter", new_id, "increment", authorization=service)
