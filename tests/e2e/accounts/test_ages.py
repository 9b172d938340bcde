"""What running services do at an age: signing keys are replaced, and entries of the security log go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx2
import jwt
import pytest

from aidevos.security.keys import load_ring
from tests.support.logins import Person, bearer, logged_in, login
from tests.support.world import ACCOUNTS, World, Worlds

AGE = 4.0


@pytest.fixture(scope="module")
def world(worlds: Worlds) -> Iterator[World]:
    ages = {"AIDEVOS_KEY_NOTICE": str(AGE / 2), "AIDEVOS_KEY_AGE": str(AGE), "AIDEVOS_AUDIT_AGE": str(AGE)}
    with worlds.alone(services=ACCOUNTS, **ages) as world:
        yield world


async def test_a_key_is_replaced_at_its_age(world: World, http: httpx2.AsyncClient, person: Person) -> None:
    old = await logged_in(http, person)
    kids = {kid(old["access_token"])}
    async with asyncio.timeout(30):
        while len(kids) < 3:
            kids.add(kid((await login(http, person.username)).json()["access_token"]))
            await asyncio.sleep(0.3)
    assert (await http.get("/users/me", headers=bearer(old))).status_code == 200

    assert load_ring(world.servers.home)[-1].cause == "age"


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def test_entries_of_the_security_log_go_when_they_are_too_old(
    world: World, http: httpx2.AsyncClient, person: Person
) -> None:
    async def actions(target: str) -> list[str]:
        headers = {"Authorization": world.admin}
        items = (await http.get("/audit", params={"target": target}, headers=headers)).json()["items"]
        return [item["action"] for item in items]

    id = (await logged_in(http, person))["user"]["id"]
    async with asyncio.timeout(AGE / 2):
        while await actions(id) != ["login", "user.registered"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(AGE)
    world.restart("authentication")
    await login(http, person.username)
    async with asyncio.timeout(AGE / 2):
        while await actions(id) != ["login"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
