"""Two gateways are like one: a caller may use either at any time, and goes on where the other left off."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import httpx2
import pytest

from tests.support.api_keys import key_of
from tests.support.browser_sessions import Browser, login
from tests.support.gateways import another_gateway
from tests.support.host_processes import eventually
from tests.support.http import http_client
from tests.support.people import PASSWORD, Person, register
from tests.support.repeats import kinds
from tests.support.sse import Source
from tests.support.world import World

MERGE = {"Content-Type": "application/merge-patch+json"}
SWITCHES = 6
WRITES = 60


class Gateways(NamedTuple):
    """Clients of both gateways, with the credential of one administrator who is a user."""

    first: httpx2.AsyncClient
    second: httpx2.AsyncClient


@pytest.fixture(scope="module")
def second_url(world: World) -> Iterator[str]:
    with another_gateway(world) as url:
        yield url


@pytest.fixture
async def person(world: World) -> Person:
    async with http_client(base_url=world.url, timeout=20) as http:
        return await register(http)


@pytest.fixture
async def gateways(world: World, second_url: str) -> AsyncIterator[Gateways]:
    async with (
        http_client(base_url=world.url, timeout=20) as first,
        http_client(base_url=second_url, timeout=20) as second,
    ):
        person = await register(first)
        patch = {"Authorization": world.admin, **MERGE}
        (await first.patch(f"/users/{person.id}", json={"roles": ["admin"]}, headers=patch)).raise_for_status()
        pair = (await first.post("/auth/login", json={"username": person.name, "password": PASSWORD})).json()
        for client in (first, second):
            client.headers["Authorization"] = f"Bearer {pair['access_token']}"
        yield Gateways(first, second)


@pytest.fixture
def name() -> str:
    return f"n{secrets.token_hex(6)}"


async def test_a_stream_goes_on_at_another_gateway_without_a_gap_or_a_repeat(gateways: Gateways, name: str) -> None:
    """The reader changes gateways in the middle of the traffic, each time with the last ID that it has seen."""
    path = f"/data/collections/{name}"

    async def write() -> None:
        for number in range(WRITES):
            gateway = gateways[number % 2]
            (await gateway.post(path, json={"id": f"i{number}", "data": 1})).raise_for_status()

    last, seen = "", list[str]()
    source = await Source(gateways.first, {}, collection=name).opened()
    writing = asyncio.create_task(write())
    for turn in range(1, SWITCHES + 1):
        await source.wait(WRITES // (SWITCHES + 2))
        await source.close()
        seen += [shown["id"] for shown in source.shown]
        last = source.last_event_id
        source = await Source(gateways[turn % 2], {}, last, collection=name).opened()
    await writing
    await source.wait(WRITES - len(seen))
    await source.close()
    seen += [shown["id"] for shown in source.shown]

    assert seen == [f"i{number}" for number in range(WRITES)]


@pytest.mark.parametrize("kind", list(kinds("")))
async def test_a_request_repeated_at_another_gateway_gets_the_first_answer(
    gateways: Gateways, name: str, kind: str
) -> None:
    path, body, other = kinds(name)[kind]
    headers = {"Idempotency-Key": secrets.token_hex(8)}

    answers = await asyncio.gather(*(gateway.post(path, json=body, headers=headers) for gateway in gateways * 2))
    later = await gateways.second.post(path, json=body, headers=headers)
    reused = await gateways.second.post(path, json=other, headers=headers)

    first = answers[0]
    assert first.status_code in (201, 207), first.text
    for answer in (*answers, later):
        assert (answer.status_code, answer.content) == (first.status_code, first.content)
        assert answer.headers.get("location") == first.headers.get("location")
        assert answer.headers.get("etag") == first.headers.get("etag")
    assert (reused.status_code, reused.json()["code"]) == (422, "request-id-reused")


async def test_a_rate_limit_holds_across_gateways(world: World, gateways: Gateways) -> None:
    headers = {"Authorization": await key_of(world, gateways.first, rate=6, window=60)}

    answers = [await gateway.get("/users/me", headers=headers) for gateway in gateways * 3]
    refused = [await gateway.get("/users/me", headers=headers) for gateway in gateways]

    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.status_code for answer in refused] == [429, 429]


async def test_a_browser_session_goes_on_at_another_gateway(world: World, second_url: str, person: Person) -> None:
    async with http_client(base_url=world.url, timeout=20) as first:
        here = Browser(first, await login(first, {"username": person.name}))
        async with http_client(base_url=second_url, timeout=20, cookies=first.cookies) as second:
            there = Browser(second, here.login)
            changed = await there.change_name(there.own)
            refreshed = await second.post("/auth/refresh", headers=there.own)
            first.cookies = httpx2.Cookies(second.cookies)
            back = await here.change_name(here.own)
            left = await second.post("/auth/logout", headers=there.own)
            ended = await first.post("/auth/refresh", headers=here.own)

    assert (changed, refreshed.status_code, back) == (200, 200, 200)
    assert refreshed.json()["csrf_token"] == here.login.json()["csrf_token"]
    assert (left.status_code, ended.status_code) == (204, 401)


async def test_a_write_shows_at_once_at_another_gateway_under_the_same_etag(gateways: Gateways, name: str) -> None:
    path = f"/data/collections/{name}"
    (await gateways.first.post(path, json={"id": "one", "data": 1})).raise_for_status()
    for number in range(2, 12):
        writer, reader = gateways[number % 2], gateways[(number + 1) % 2]
        before = await reader.get(f"{path}/one")
        unchanged = await writer.get(f"{path}/one", headers={"If-None-Match": before.headers["etag"]})
        match = {"If-Match": before.headers["etag"]}
        written = await writer.put(f"{path}/one", json={"data": number}, headers=match)
        after = await reader.get(f"{path}/one", headers={"If-None-Match": before.headers["etag"]})
        stale = await reader.put(f"{path}/one", json={"data": 0}, headers=match)

        assert (unchanged.status_code, written.status_code, after.status_code) == (304, 200, 200)
        assert (after.json()["data"], after.headers["etag"]) == (number, written.headers["etag"])
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition-failed")


async def test_pages_go_on_at_another_gateway(gateways: Gateways, name: str) -> None:
    path = f"/data/collections/{name}"
    items = [{"id": f"i{number}", "data": number} for number in range(9)]
    (await gateways.first.post(path, json=items)).raise_for_status()

    found, cursor = list[str](), None
    for turn in range(5):
        page = (
            await gateways[turn % 2].get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert (sorted(found), cursor) == ([item["id"] for item in items], None)


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json"])
async def test_both_gateways_describe_the_same_api_under_the_same_etag(gateways: Gateways, path: str) -> None:
    async def are_the_same() -> bool:
        """True once both know the route that another test may have just declared."""
        first = await gateways.first.get(path)
        second = await gateways.second.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert first.status_code == 200
        return second.status_code == 304

    await eventually(are_the_same)
