"""Security headers, cross-origin requests, and one hanging type that must not slow the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support.gateway_world import World, assert_problem, eventually, gateway_world
from tests.support.servers import Servers

MINE, OTHER = "https://app.example.org", "https://evil.example.org"
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization, if-match"}


@pytest.fixture
async def listed(servers: Servers) -> AsyncIterator[World]:
    """Start a gateway behind TLS that allows one other origin."""
    settings = {"cors_origins": f"{MINE}, http://localhost:3000", "public_url": "https://api.example.org"}
    async with gateway_world(servers, **settings) as world:
        yield world


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers, cors_origins="*", max_type_pending=20) as world:
        yield world


async def answers(world: World) -> list[httpx2.Response]:
    """Return a success, a failure, an unknown path, a page, and the answer to bytes that are not HTTP."""
    head, _, body = (await world.raw(b"GET\r\n\r\n")).partition(b"\r\n\r\n")
    lines = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:]]
    return [
        await world.call("echo"),
        await world.anonymous.get("/durable-objects"),
        await world.http.get("/nothing"),
        await world.anonymous.get("/docs"),
        httpx2.Response(400, headers=[(name, value) for name, value in lines], content=body),
    ]


async def test_every_answer_tells_browsers_to_be_careful(listed: World, world: World) -> None:
    for answer in await answers(listed):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "base-uri 'none'" in answer.headers["content-security-policy"]
        assert answer.headers.get_list("cache-control") == ["private, no-cache"]
    assert (await listed.call("echo")).headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in (await world.call("echo")).headers


async def test_what_may_be_kept_by_others_still_says_so(world: World) -> None:
    answer = await world.anonymous.get("/.well-known/jwks.json")

    assert answer.headers.get_list("cache-control")[0].startswith("public")


async def test_a_listed_origin_may_call_and_no_other(listed: World) -> None:
    path = "/durable-objects/counter:c"
    asked = await listed.anonymous.options(path, headers={"Origin": MINE} | PREFLIGHT)
    refused = await listed.anonymous.options(path, headers={"Origin": OTHER} | PREFLIGHT)
    mine = await listed.http.get(path, headers={"Origin": MINE})
    other = await listed.http.get(path, headers={"Origin": OTHER, "Cookie": "a=b"})

    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, MINE)
    assert "PUT" in asked.headers["access-control-allow-methods"]
    assert_problem(refused, 403, "forbidden")
    assert (mine.status_code, mine.headers["access-control-allow-origin"]) == (404, MINE)
    assert "ETag" in mine.headers["access-control-expose-headers"]
    for answer in (refused, other):
        assert "access-control-allow-origin" not in answer.headers
    for answer in (asked, refused, mine, other):
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]


async def test_any_origin_may_call_without_credentials_and_is_never_reflected(world: World) -> None:
    for headers in ({"Origin": OTHER}, {"Origin": OTHER, "Cookie": "a=b"}):
        answer = await world.anonymous.get("/health/live", headers=headers)

        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


async def test_without_the_setting_no_other_origin_is_let_in(servers: Servers) -> None:
    async with gateway_world(servers) as world:
        answer = await world.http.get("/durable-objects", headers={"Origin": OTHER})

        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_type_that_hangs_takes_its_own_room_and_no_other_s(world: World) -> None:
    hanging = [asyncio.create_task(world.call("silence", object_id=f"basket:{number}")) for number in range(20)]

    async def all_under_way() -> bool:
        return len({message.subject for message in world.host.seen}) == 20

    await eventually(all_under_way)
    started = time.monotonic()
    refused = await world.call("echo", object_id="basket:x")
    others = await asyncio.gather(*(world.call("echo") for _ in range(15)))

    assert time.monotonic() - started < 1.5
    assert_problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in others] == [200] * 15
    assert {answer.status_code for answer in await asyncio.gather(*hanging)} == {503}
    assert (await world.call("echo", object_id="basket:x")).status_code == 200
