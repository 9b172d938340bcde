"""Accounts while processes die and join: nothing acknowledged is lost, and ended sessions stay ended."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx2
import pytest

from aidevos.contracts.authentication import session_of
from tests.support.gateways import another_gateway
from tests.support.http import http_client
from tests.support.world import World

PASSWORD = "wheelbarrow at noon"


@pytest.fixture
def name() -> str:
    return f"n{secrets.token_hex(6)}"


async def register(http: httpx2.AsyncClient, name: str) -> int:
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    return (await http.post("/auth/register", json=body)).status_code


async def login(http: httpx2.AsyncClient, name: str) -> httpx2.Response:
    return await http.post("/auth/login", json={"username": name, "password": PASSWORD})


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def test_a_logout_is_known_to_another_gateway_within_a_second_and_to_one_that_starts_later(
    world: World, name: str
) -> None:
    async with http_client(base_url=world.url, timeout=20) as http:
        await register(http, name)
        pair = (await login(http, name)).json()
        kept = (await login(http, name)).json()
        with another_gateway(world) as url:
            async with http_client(base_url=url) as other:
                before = await other.get("/auth/me", headers=bearer(pair))
                await http.post("/auth/logout", headers=bearer(pair))
                async with asyncio.timeout(1):
                    while (await other.get("/users/me", headers=bearer(pair))).status_code != 401:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
        with another_gateway(world) as url:
            async with http_client(base_url=url) as later:
                ended = await later.get("/users/me", headers=bearer(pair))
                going_on = await later.get("/users/me", headers=bearer(kept))

    assert before.status_code == 200
    assert (ended.status_code, ended.json()["detail"]) == (401, "the session has ended")
    assert going_on.status_code == 200


async def test_changed_access_is_known_to_a_gateway_and_a_host_that_start_later(world: World, name: str) -> None:
    async with http_client(base_url=world.url, timeout=20) as http:
        await register(http, name)
        pair = (await login(http, name)).json()
        path = f"/users/{pair['user']['id']}"
        admin = {"Authorization": world.admin, "Content-Type": "application/merge-patch+json"}
        for roles in (["admin", "user"], ["user"]):
            assert (await http.patch(path, headers=admin, json={"roles": roles})).status_code == 200
            if "admin" in roles:
                promoted = (await login(http, name)).json()
        world.restart("user_management")
        with another_gateway(world) as url:
            async with http_client(base_url=url) as later:
                listed = await later.get("/durable-objects?type=user", headers=bearer(promoted))
                searched = await later.get("/users", headers=bearer(promoted))
                me = await later.get("/users/me", headers=bearer(promoted))

    assert (listed.status_code, searched.status_code, me.status_code) == (403, 403, 200)


@pytest.mark.parametrize("service", ["authentication", "user_management"])
async def test_a_kill_amid_registrations_and_logins_loses_nothing_that_was_acknowledged(
    world: World, name: str, service: str
) -> None:
    names = [f"{name}{number}" for number in range(24)]
    async with http_client(base_url=world.url, timeout=60) as http:
        registering = [asyncio.create_task(register(http, name)) for name in names]
        done, _ = await asyncio.wait(registering, return_when=asyncio.FIRST_COMPLETED)
        world.restart(service)
        statuses = await asyncio.gather(*registering)
        for name, status in zip(names, statuses, strict=True):
            if status != 201:
                status = await register(http, name)
            assert status == 201 or (status == 409 and (await login(http, name)).status_code == 200)
        logins = [await login(http, name) for name in names]
        refreshed = [await http.post("/auth/refresh", json={"refresh_token": refresh_of(each)}) for each in logins]

    assert done
    assert [answer.status_code for answer in logins] == [200] * len(names)
    assert [answer.status_code for answer in refreshed] == [200] * len(names)
    assert len({session_of(refresh_of(answer)) for answer in logins}) == len(names)


def refresh_of(answer: httpx2.Response) -> str:
    return str(answer.json()["refresh_token"])
