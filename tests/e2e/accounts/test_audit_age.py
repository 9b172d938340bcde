"""Entries of the security log of running services go at their age."""

from __future__ import annotations

import asyncio

import httpx2

from tests.support.http import http_client
from tests.support.logins import Person, logged_in, login
from tests.support.world import Worlds

ADA = Person("ada", "ada@example.org")


async def test_entries_of_the_security_log_go_when_they_are_too_old(worlds: Worlds) -> None:
    age = 4.0

    async def actions(http: httpx2.AsyncClient, target: str) -> list[str]:
        items = (await http.get("/audit", params={"target": target}, headers=admin)).json()["items"]
        return [item["action"] for item in items]

    with worlds.alone(AIDEVOS_AUDIT_AGE=str(age)) as world:
        admin = {"Authorization": world.admin}
        async with http_client(base_url=world.url, timeout=20) as http:
            id = (await logged_in(http, ADA))["user"]["id"]
            async with asyncio.timeout(age / 2):
                while await actions(http, id) != ["login", "user.registered"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await asyncio.sleep(age)
            world.restart("authentication")
            await login(http, ADA.username)
            async with asyncio.timeout(age / 2):
                while await actions(http, id) != ["login"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
