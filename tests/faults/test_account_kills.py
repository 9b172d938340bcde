"""Registrations and logins while their services are killed, again and again, at random moments."""

from __future__ import annotations

import asyncio
import random
import secrets

import httpx2
import pytest

from tests.support.http import http_client
from tests.support.kits import repeats
from tests.support.world import World, wait_ready

ROUNDS = repeats(6)
NEWCOMERS = 8
# A deadline in milliseconds, shorter than a restart, so that registrations stay half done.
IMPATIENT = {"Deadline": "600"}
# Seconds that the requests of a round take if nothing is killed.
BUSY = 0.6


@pytest.fixture
def prefix() -> str:
    """Return what the names of this test's users begin with."""
    return f"n{secrets.token_hex(4)}"


async def register(http: httpx2.AsyncClient, name: str, password: str, headers: dict[str, str] | None = None) -> int:
    body = {"username": name, "email": f"{name}@example.org", "password": password}
    return (await http.post("/auth/register", json=body, headers=headers)).status_code


async def login(http: httpx2.AsyncClient, name: str, password: str) -> int:
    return (await http.post("/auth/login", json={"username": name, "password": password})).status_code


async def patient_login(http: httpx2.AsyncClient, name: str, password: str) -> int:
    """Log in, and again as long as the machine is too busy with other logins."""
    while (status := await login(http, name, password)) == 503:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    return status


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", ["authentication", "user_management"])
async def test_no_kill_loses_a_name_an_acknowledged_registration_or_leaves_an_orphan(
    world: World, service: str, prefix: str
) -> None:
    names: list[str] = []
    passwords: dict[str, str] = {}
    async with http_client(base_url=world.url, timeout=60) as http:
        for round in range(ROUNDS):
            newcomers = [f"{prefix}r{round}x{number}" for number in range(NEWCOMERS)]
            known = random.sample(names, min(4, len(names)))
            registering = [
                asyncio.create_task(register(http, name, f"first password of {name}", random.choice((None, IMPATIENT))))
                for name in newcomers
            ]
            entering = [asyncio.create_task(login(http, name, passwords[name])) for name in known]
            await asyncio.sleep(random.uniform(0, BUSY))
            world.restart(service)
            statuses = await asyncio.gather(*registering)
            entered = await asyncio.gather(*entering)
            wait_ready(world.url, [])

            assert {status for status in entered if status < 500} <= {200}
            settling = (
                settled(http, name, acknowledged=status == 201)
                for name, status in zip(newcomers, statuses, strict=True)
            )
            passwords |= zip(newcomers, await asyncio.gather(*settling), strict=True)
            names += newcomers
        logins = [
            patient_login(http, each, passwords[name]) for name in names for each in (name, f"{name}@example.org")
        ]
        assert set(await asyncio.gather(*logins)) == {200}
        assert sorted(await everyone(world, http, prefix)) == sorted(names)


async def settled(http: httpx2.AsyncClient, name: str, *, acknowledged: bool) -> str:
    """Return the password of a name after a disturbed registration.

    An unacknowledged registration may have happened; otherwise the name is free for others.
    """
    first, second = f"first password of {name}", f"second password of {name}"
    if not acknowledged and await register(http, name, second) == 201:
        return second
    assert await patient_login(http, name, first) == 200, f"{name} is lost"
    return first


async def everyone(world: World, http: httpx2.AsyncClient, prefix: str) -> list[str]:
    """Return the usernames of all users that begin like this."""
    query = {"q": prefix, "role": "user", "limit": "200"}
    answer = await http.get("/users", params=query, headers={"Authorization": world.admin})
    return [user["username"] for user in answer.json()["items"]]
