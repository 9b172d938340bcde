"""People with accounts, and their logins."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, NamedTuple

import httpx2

from aidevos.security.fleet_secrets import load_secrets
from tests.support.world import World

PASSWORD = "wheelbarrow at noon"
# What services of their own (tests/e2e/accounts/alone) have as settings, in seconds.
KEY_NOTICE, REFRESH_GRACE = 2.0, 1.0


class Person(NamedTuple):
    username: str
    email: str


async def register(http: httpx2.AsyncClient, person: Person, **changes: str) -> httpx2.Response:
    body = {"username": person.username, "email": person.email, "password": PASSWORD, **changes}
    return await http.post("/auth/register", json=body)


async def login(http: httpx2.AsyncClient, username: str, password: str = PASSWORD) -> httpx2.Response:
    return await http.post("/auth/login", json={"username": username, "password": password})


async def logged_in(http: httpx2.AsyncClient, person: Person) -> dict[str, Any]:
    """Register a person, log in, and return the token pair."""
    assert (await register(http, person)).status_code == 201
    answer = await login(http, person.username)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def admin_password(world: World) -> str:
    return load_secrets(world.servers.home).admin_password


def bearer(pair: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {pair['access_token']}"}


async def status_of(http: httpx2.AsyncClient, pair: dict[str, Any]) -> int:
    return (await http.get("/auth/me", headers=bearer(pair))).status_code


async def wait_until_refused(http: httpx2.AsyncClient, pair: dict[str, Any]) -> None:
    """Wait until the pair's access token is refused; fail after one second."""
    async with asyncio.timeout(1):
        while await status_of(http, pair) != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def new_person() -> Person:
    name = f"u{secrets.token_hex(8)}"
    return Person(name, f"{name}@example.org")
