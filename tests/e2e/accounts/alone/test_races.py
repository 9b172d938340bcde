"""Accounts under races, on their own services."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest

from aidevos.contracts.authentication import session_of
from aidevos.contracts.errors import Failure
from tests.support.gateways import another_gateway
from tests.support.http import http_client
from tests.support.logins import REFRESH_GRACE, Person, bearer, login, register
from tests.support.world import NatsEntryPoint, World


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(base_url=world.url, timeout=60) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"ada{secrets.token_hex(6)}"


async def logged_in(http: httpx2.AsyncClient, name: str) -> dict[str, Any]:
    assert (await register(http, Person(name, f"{name}@example.org"))).status_code == 201
    return dict((await login(http, name)).json())


def spelled(name: str) -> str:
    return "".join(random.choice((letter.lower(), letter.upper())) for letter in name)


async def refresh_over_nats(door: NatsEntryPoint, token: str) -> dict[str, Any]:
    payload = msgspec.json.encode({"refresh_token": token})
    return dict(await door.call("session", session_of(token), "refresh", payload, authorization=None))


@pytest.mark.parametrize("contended", ["username", "email"])
async def test_of_fifty_who_want_one_name_in_any_case_one_gets_it_and_the_others_lose_nothing(
    http: httpx2.AsyncClient, name: str, contended: str
) -> None:
    wanted = [
        (spelled(name), f"{name}{n}@example.org")
        if contended == "username"
        else (f"{name}{n}", spelled(f"{name}@example.org"))
        for n in range(50)
    ]

    answers = await asyncio.gather(*(register(http, Person(*each)) for each in wanted))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49
    assert {answer.json()["field"] for answer in answers if answer.is_error} == {contended}
    winner = next(answer.json() for answer in answers if not answer.is_error)
    assert (await login(http, spelled(winner["username"]))).json()["user"] == winner
    assert (await login(http, spelled(winner["email"]))).json()["user"] == winner
    losers = [each for each, answer in zip(wanted, answers, strict=True) if answer.is_error]
    for number, (username, email) in enumerate(losers[:5]):
        again = (
            (f"{name}new{number}", email) if contended == "username" else (username, f"{name}new{number}@example.org")
        )
        assert (await register(http, Person(*again))).status_code == 201


async def test_twenty_refreshes_at_once_over_http_and_nats_give_one_pair_that_goes_on(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, name: str
) -> None:
    first = await logged_in(http, name)
    token = first["refresh_token"]

    async def over_http() -> dict[str, Any]:
        answer = await http.post("/auth/refresh", json={"refresh_token": token})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    pairs = await asyncio.gather(
        *(work for _ in range(10) for work in (over_http(), refresh_over_nats(over_nats, token)))
    )

    assert len(pairs) == 20
    assert all(pair == pairs[0] for pair in pairs)
    third = await refresh_over_nats(over_nats, pairs[0]["refresh_token"])
    listed = (await http.get("/auth/sessions", headers=bearer(third))).json()["items"]
    assert [item["id"] for item in listed] == [session_of(token)]


async def test_a_refresh_that_is_repeated_after_the_grace_ends_the_session_everywhere(
    http: httpx2.AsyncClient, over_nats: NatsEntryPoint, name: str
) -> None:
    first = await logged_in(http, name)
    second = await refresh_over_nats(over_nats, first["refresh_token"])
    assert await refresh_over_nats(over_nats, first["refresh_token"]) == second
    spent = time.monotonic()
    while time.monotonic() < spent + REFRESH_GRACE + 0.2:  # noqa: ASYNC110 the grace is what is waited for
        await asyncio.sleep(0.05)

    repeated = await http.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})

    assert repeated.status_code == 401
    await is_refused_within_a_second(http, over_nats, second)
    successor = await http.post("/auth/refresh", json={"refresh_token": second["refresh_token"]})
    assert successor.status_code == 401


async def test_a_logout_is_seen_by_another_gateway_and_by_every_host(
    world: World, http: httpx2.AsyncClient, over_nats: NatsEntryPoint, name: str
) -> None:
    pair = await logged_in(http, name)
    with another_gateway(world) as url:
        async with http_client(base_url=url, timeout=20) as second:
            before = (
                (await second.get("/users/me", headers=bearer(pair))).status_code,
                await statuses_over_nats(over_nats, pair),
            )

            assert (await http.post("/auth/logout", headers=bearer(pair))).status_code == 204

            await is_refused_within_a_second(second, over_nats, pair)
    assert before == (200, {200, 403})


async def statuses_over_nats(door: NatsEntryPoint, pair: dict[str, Any]) -> set[int]:
    """Call the hosts of three services with a user's token, and return the statuses."""
    session, user = session_of(pair["refresh_token"]), pair["user"]["id"]
    statuses = set()
    for type, id, method in (("session", session, "me"), ("user", user, "read"), ("counter", "c", "value")):
        try:
            await door.call(type, id, method, authorization=bearer(pair)["Authorization"])
            statuses.add(200)
        except Failure as failure:
            statuses.add(failure.status)
    return statuses


async def is_refused_within_a_second(http: httpx2.AsyncClient, door: NatsEntryPoint, pair: dict[str, Any]) -> None:
    async def refused() -> bool:
        shown = await http.get("/users/me", headers=bearer(pair))
        return shown.status_code == 401 and await statuses_over_nats(door, pair) == {401}

    async with asyncio.timeout(1):
        while not await refused():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
