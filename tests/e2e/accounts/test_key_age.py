"""A signing key of running services is replaced at its age."""

from __future__ import annotations

import asyncio

import jwt

from aidevos.security.keys import load_ring
from tests.support.http import http_client
from tests.support.logins import Person, bearer, logged_in, login
from tests.support.world import Worlds

ADA = Person("ada", "ada@example.org")


async def test_a_key_is_replaced_at_its_age(worlds: Worlds) -> None:
    with worlds.alone(AIDEVOS_KEY_NOTICE="2", AIDEVOS_KEY_AGE="4") as world:
        async with http_client(base_url=world.url, timeout=20) as http:
            old = await logged_in(http, ADA)
            kids = {kid(old["access_token"])}
            async with asyncio.timeout(30):
                while len(kids) < 3:
                    kids.add(kid((await login(http, ADA.username)).json()["access_token"]))
                    await asyncio.sleep(0.3)
            assert (await http.get("/users/me", headers=bearer(old))).status_code == 200

    assert load_ring(world.servers.home)[-1].cause == "age"


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])
