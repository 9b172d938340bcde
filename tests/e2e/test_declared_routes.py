"""Declared routes over HTTP and NATS: their targets, their callers, and how soon they work everywhere."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from aidevos.contracts import routes, subjects
from aidevos.contracts.errors import Failure
from tests.support.declared_routes import hit, value
from tests.support.gateways import another_gateway
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.world import NatsEntryPoint, World

NAMES = "Grüße, 世界"


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(base_url=world.url, timeout=20, headers={"Authorization": world.admin}) as client:
        yield client


@pytest.fixture
def shop() -> str:
    """Return the first segment of a test's own paths."""
    return f"shop-{secrets.token_hex(6)}"


async def declare(http: httpx2.AsyncClient, body: dict[str, Any]) -> httpx2.Response:
    """Declare a route, and return once this gateway serves it."""
    answer = await http.post("/routes", json=body)
    assert answer.status_code == 201, answer.text
    await served(http, answer.json()["id"])
    return answer


async def served(http: httpx2.AsyncClient, id: str) -> None:
    known = httpx2.Headers()

    async def described() -> bool:
        answer = await http.get("/openapi.json", headers=known)
        known["If-None-Match"] = answer.headers["etag"]
        return f"route_{id}" in answer.text

    await eventually(described, within=1.0)


async def test_a_route_calls_the_named_object_with_the_body_as_arguments(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, shop: str
) -> None:
    await declare(http, hit(shop))

    once = await http.post(f"/{shop}/{shop}/hit")
    more = await http.post(f"/{shop}/{shop}/hit", json={"by": 4})
    await http.post(f"/{shop}/{NAMES}/hit", json={"by": 7})

    assert (once.status_code, once.json(), more.json()) == (200, {"result": 1}, {"result": 5})
    hashed = subjects.id_from_name("counter", NAMES)
    read = [await over_nats.call("counter", id, "value", authorization=world.admin) for id in (shop, hashed)]
    assert read[0] == 5
    assert read[1] >= 7


async def test_unused_variables_and_query_parameters_are_arguments_of_their_type(
    http: httpx2.AsyncClient, shop: str
) -> None:
    await declare(http, hit(shop, path=f"/{shop}/{{name}}/hit/{{by}}"))
    await declare(
        http,
        value(shop, path=f"/{shop}/{{name}}/see", object_type="role", object_method="read", permission="roles:manage"),
    )

    added = await http.post(f"/{shop}/{shop}/hit/3", json={})
    twice = await http.post(f"/{shop}/{shop}/hit/3", json={"by": 4})
    wrong = await http.post(f"/{shop}/{shop}/hit/three")
    extra = await http.post(f"/{shop}/{shop}/hit/3", json={"price": 4})
    query = await http.get(f"/{shop}/admin/see", params={"by": "1"})
    read = await http.get(f"/{shop}/admin/see")

    assert added.json() == {"result": 3}
    assert [(answer.status_code, answer.json()["field"]) for answer in (twice, wrong, extra, query)] == [
        (422, "by"),
        (422, "by"),
        (422, "price"),
        (422, "by"),
    ]
    assert read.json()["result"]["permissions"] == ["*"]


async def test_a_repeat_with_an_idempotency_key_is_applied_once(http: httpx2.AsyncClient, shop: str) -> None:
    await declare(http, hit(shop))
    headers = {"Idempotency-Key": secrets.token_hex(8)}

    answers = [await http.post(f"/{shop}/{shop}/hit", json={"by": by}, headers=headers) for by in (2, 2, 3)]

    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert answers[0].json() == answers[1].json() == {"result": 2}


async def test_a_route_is_made_shown_replaced_and_deleted_under_its_etag(http: httpx2.AsyncClient, shop: str) -> None:
    made = await declare(http, hit(shop))
    path, etag = made.headers["location"], made.headers["etag"]
    read = await http.get(path)
    known = await http.get(path, headers={"If-None-Match": etag})
    other = hit(shop, path=f"/{shop}/{{who}}/hit", object_id="{who}-2", limits={"rate": 5, "window": 60})
    stale = await http.put(path, json=other, headers={"If-Match": '"999"'})
    moved = await http.put(path, json=value(shop))
    replaced = await http.put(path, json=other, headers={"If-Match": etag})
    kept = await http.delete(path, headers={"If-Match": etag})
    listed = [item["id"] for item in (await http.get("/routes", params={"limit": 500})).json()["items"]]
    gone = await http.delete(path, headers={"If-Match": replaced.headers["etag"]})

    assert made.json() | {"created_at": "", "updated_at": ""} == {
        **hit(shop),
        "limits": None,
        "cache_seconds": 0.0,
        "id": path.removeprefix("/routes/"),
        "version": 1,
        "created_at": "",
        "updated_at": "",
    }
    assert (read.json(), read.headers["etag"], known.status_code) == (made.json(), etag, 304)
    assert (stale.status_code, moved.status_code, kept.status_code) == (412, 409, 412)
    assert (replaced.json()["object_id"], replaced.json()["limits"]) == ("{who}-2", {"rate": 5, "window": 60.0})
    assert made.json()["id"] in listed
    assert (gone.status_code, (await http.get(path)).status_code, (await http.delete(path)).status_code) == (
        204,
        404,
        404,
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users/{name}/carts", 409),
        ("/durable-objects", 409),
        ("/openapi.json", 409),
        ("/{anything}", 422),
        ("/shop/{a}/{a}", 422),
        ("/shop/../users", 422),
        ("/shop/(a+)+$", 422),
        ("/shop/{name}x", 422),
        ("/shop//x", 422),
        ("shop", 422),
        ("/" + "a/" * 17 + "b", 422),
    ],
)
async def test_paths_of_the_gateway_s_own_and_unsafe_ones_are_refused(
    http: httpx2.AsyncClient, path: str, status: int
) -> None:
    answer = await http.post("/routes", json=hit("shop", path=path, object_id="one"))

    assert (answer.status_code, answer.json()["field"]) == (status, "path")


async def test_of_many_who_declare_the_same_path_at_once_one_succeeds(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, shop: str
) -> None:
    bodies = [hit(shop, path=f"/{shop}/{{n{number}}}/hit", object_id="x") for number in range(10)]

    answers = await asyncio.gather(*(http.post("/routes", json=body) for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert {answer.json()["code"] for answer in answers if answer.is_error} == {"exists"}
    with pytest.raises(Failure, match="the ID doesn't belong to"):
        await over_nats.call(
            "route", "another", "create", msgspec.json.encode({"route": bodies[0]}), authorization=world.admin
        )


async def test_a_literal_segment_goes_before_a_variable(http: httpx2.AsyncClient, shop: str) -> None:
    await declare(http, hit(shop))
    await declare(http, hit(shop, path=f"/{shop}/till/hit", object_id=f"{shop}-till"))

    await http.post(f"/{shop}/till/hit", json={"by": 9})
    other = await http.post(f"/{shop}/{shop}-till/hit", json={"by": 1})

    assert other.json() == {"result": 10}


async def test_a_path_takes_the_methods_that_are_declared_and_head_with_get(
    http: httpx2.AsyncClient, shop: str
) -> None:
    await declare(http, value(shop, path=f"/{shop}/{{a}}", object_id="{a}"))
    await declare(http, hit(shop, method="PATCH", path=f"/{shop}/{{b}}", object_id="{b}"))

    patched = await http.patch(f"/{shop}/{shop}", json={"by": 3})
    head = await http.head(f"/{shop}/{shop}")
    refused = await http.put(f"/{shop}/{shop}", json={})

    assert (patched.json(), (await http.get(f"/{shop}/{shop}")).json()) == ({"result": 3}, {"result": 3})
    assert (head.status_code, head.content) == (200, b"")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, PATCH")
    assert (await http.get(f"/{shop}/{shop}/more")).status_code == 404


async def test_the_route_s_permission_and_the_method_s_own_rule_both_count(
    http: httpx2.AsyncClient, world: World, shop: str
) -> None:
    await declare(http, hit(shop, permission="counter:read"))
    path = f"/{shop}/{shop}/hit"

    async def tried(*permissions: str) -> int:
        return (await http.post(path, headers={"Authorization": world.token(*permissions)})).status_code

    assert (await http.post(path, headers={"Authorization": ""})).status_code == 401
    assert [await tried(), await tried("counter:read"), await tried("counter:write")] == [403, 403, 403]
    assert await tried("counter:read", "counter:write") == 200


async def test_methods_for_anyone_need_no_credential(http: httpx2.AsyncClient, world: World, shop: str) -> None:
    public = {"method": "GET", "path": f"/{shop}/{{name}}", "object_type": "collection", "object_id": "{name}"}
    kept = {"rules": {"read": "public"}}
    (await http.put(f"/data/collections/{shop}", json=kept)).raise_for_status()
    await declare(http, public | {"object_method": "config", "limits": {"rate": 1, "window": 600}})
    await declare(http, value(shop, path=f"/{shop}/{{name}}/value") | {"permission": None})
    await declare(http, public | {"path": f"/{shop}/{{name}}/asks", "object_method": "config", "permission": "a:b"})

    async with http_client(base_url=world.url, timeout=20) as anonymous:
        requested = await anonymous.post(f"/durable-objects/collection:{shop}/request", json={"method": "config"})
        routed = await anonymous.get(f"/{shop}/{shop}")
        wrong = await anonymous.get(f"/{shop}/{shop}", headers={"Authorization": "Bearer x.y.z"})
        closed = [
            await anonymous.get(f"/{shop}/{shop}/value"),
            await anonymous.get(f"/{shop}/{shop}/asks"),
            await anonymous.post(f"/durable-objects/collection:{shop}/request", json={"method": "unknown"}),
            await anonymous.post(f"/durable-objects/counter:{shop}/request", content=b"not read"),
        ]
        again = await anonymous.get(f"/{shop}/{shop}")
    other = await http.get(f"/{shop}/{shop}")

    assert [answer.json()["result"]["rules"]["read"] for answer in (requested, routed, other)] == ["public"] * 3
    assert [(answer.status_code, answer.json()["code"]) for answer in (wrong, *closed)] == [
        (401, "unauthenticated")
    ] * 5
    assert (again.status_code, '"route-' in again.headers["ratelimit-policy"]) == (429, True)


async def test_a_route_has_a_limit_of_its_own_for_each_caller(
    http: httpx2.AsyncClient, world: World, shop: str
) -> None:
    await declare(http, hit(shop, limits={"rate": 2, "window": 600}))
    bob = {"Authorization": world.token("counter:write", subject=f"bob-{shop}")}

    answers = [await http.post(f"/{shop}/{shop}/hit") for _ in range(3)]
    other = await http.post(f"/{shop}/{shop}/hit", headers=bob)

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "q=2;w=600" in answers[2].headers["ratelimit-policy"]
    assert int(answers[2].headers["retry-after"]) > 200
    assert other.json() == {"result": 3}


async def test_get_calls_no_command(http: httpx2.AsyncClient, shop: str) -> None:
    await declare(http, hit(shop, method="GET", path=f"/{shop}/{{name}}"))
    await declare(http, value(shop, path=f"/{shop}/{{name}}/value"))

    refused = await http.get(f"/{shop}/{shop}")

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await http.get(f"/{shop}/{shop}/value")).json() == {"result": 0}


async def test_an_answer_is_repeated_from_the_cache_to_the_same_caller_alone(
    http: httpx2.AsyncClient, world: World, shop: str
) -> None:
    await declare(http, hit(shop))
    await declare(http, value(shop, cache_seconds=600, permission="counter:see"))
    path = f"/{shop}/{shop}"

    async def seen(*permissions: str, subject: str = "ada") -> Any:
        token = world.token(*permissions, subject=subject)
        answer = await http.get(path, headers={"Authorization": token})
        return answer.json().get("result", answer.status_code)

    both = ("counter:see", "counter:read")
    assert await seen(*both) == 0
    await http.post(f"{path}/hit")
    assert await seen(*both) == 0
    assert await seen(*both, subject="bob") == 1
    assert await seen("counter:see") == 403
    assert await seen("counter:read") == 403
    assert (await http.get(f"/{shop}/{shop}-2")).json() == {"result": 0}


async def test_a_failure_and_a_command_are_never_answered_from_the_cache(http: httpx2.AsyncClient, shop: str) -> None:
    await declare(http, hit(shop, cache_seconds=600))
    role = value(shop, object_type="role", object_method="read", permission="roles:manage", cache_seconds=600)
    await declare(http, role)

    hits = [(await http.post(f"/{shop}/{shop}/hit")).json()["result"] for _ in range(3)]
    missing = await http.get(f"/{shop}/{shop}")
    await http.post("/roles", json={"name": shop, "permissions": []})
    there = await http.get(f"/{shop}/{shop}")

    assert hits == [1, 2, 3]
    assert (missing.status_code, there.status_code) == (404, 200)


async def test_a_change_counts_within_a_second_at_every_gateway_and_at_one_that_starts_later(
    http: httpx2.AsyncClient, world: World, shop: str
) -> None:
    path, other_one = f"/{shop}/one", f"{shop}-one"
    await http.post(f"/durable-objects/counter:{other_one}/request", json={"method": "increment", "args": {"by": 5}})
    with another_gateway(world) as url:
        async with http_client(base_url=url, headers=http.headers, timeout=20) as other:

            async def answered(wanted: Any) -> None:
                async def by_both() -> bool:
                    answers = [(await client.get(path)).json() for client in (http, other)]
                    return [answer.get("result", answer.get("status")) for answer in answers] == [wanted, wanted]

                await eventually(by_both, within=1.0)

            await answered(404)
            made = (await http.post("/routes", json=value(shop))).json()
            await answered(0)
            await http.put(f"/routes/{made['id']}", json=value(shop, object_id=f"{shop}-{{name}}", cache_seconds=60))
            await answered(5)
            with another_gateway(world) as late:
                async with http_client(base_url=late, headers=http.headers, timeout=20) as third:
                    assert (await third.get(path)).json() == {"result": 5}
            await http.delete(f"/routes/{made['id']}")
            await answered(404)


async def test_routes_outlive_their_service_and_a_route_of_nobody_says_so(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, shop: str
) -> None:
    route = hit(shop, object_type="nothing_like_it")
    id = routes.route_id("POST", route["path"])
    made = await over_nats.call("route", id, "create", msgspec.json.encode({"route": route}), authorization=world.admin)
    await served(http, id)
    unknown = await http.post(f"/{shop}/x/hit")
    await declare(http, value(shop))
    world.restart("api_gateway")
    during = await http.get(f"/{shop}/x")

    async def listed() -> bool:
        answer = await http.get("/routes", params={"limit": 500})
        return answer.status_code == 200 and made in answer.json()["items"]

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-type")
    assert during.json() == {"result": 0}
    await eventually(listed)


async def test_only_managers_of_routes_see_and_change_them(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, world: World, shop: str
) -> None:
    made = (await declare(http, hit(shop))).json()
    path = f"/routes/{made['id']}"
    clerk = {"Authorization": world.token("counter:write", "roles:manage")}
    manager = world.token("routes:manage")

    refused = [
        await http.get("/routes", headers=clerk),
        await http.post("/routes", json=value(shop), headers=clerk),
        await http.get(path, headers=clerk),
        await http.put(path, json=hit(shop), headers=clerk),
        await http.delete(path, headers=clerk),
    ]
    page = await over_nats.query("route", "search", {"limit": 500}, authorization=manager)

    assert [answer.status_code for answer in refused] == [403] * 5
    assert made in page["items"]


async def test_declared_routes_are_described(http: httpx2.AsyncClient, shop: str) -> None:
    await declare(http, hit(shop, path=f"/{shop}/{{name}}/hit/{{by}}"))
    await declare(http, hit(shop, method="PUT", path=f"/{shop}/{{it}}/hit/{{much}}", object_id="{it}"))
    await declare(http, value(shop))

    document = (await http.get("/openapi.json")).json()

    OpenAPIV31SpecValidator(document).validate()
    described = document["paths"][f"/{shop}/{{it}}/hit/{{much}}"]
    assert set(described) == {"post", "put"}
    own = [parameter for parameter in described["post"]["parameters"] if "name" in parameter]
    assert [(item["name"], item["in"], item["schema"]["type"]) for item in own] == [
        ("it", "path", "string"),
        ("much", "path", "integer"),
    ]
    assert f"/{shop}/{{name}}/hit/{{by}}" not in document["paths"]
    answer = document["paths"][f"/{shop}/{{name}}"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/counter.value.response")
