"""NATS loses its data: what was revoked before stays revoked, and nobody else is logged out."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Iterator

import httpx2
import pytest

from tests.support.servers import Servers, drop_database
from tests.support.world import ACCOUNTS, World, running, wait_ready

PASSWORD = "wheelbarrow at noon"
AFFECTED = ("http_gateway", "user_management")


@pytest.fixture
def world(servers: Servers) -> Iterator[World]:
    name = f"test_{secrets.token_hex(8)}"
    with running(servers, name, services=ACCOUNTS) as world:
        yield world
    drop_database(servers.mongo_url, name)


async def enter(http: httpx2.AsyncClient, name: str) -> tuple[str, dict[str, str]]:
    """Register and log in. Return the user's ID and the headers of a request."""
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    id = (await http.post("/auth/register", json=body)).json()["id"]
    pair = (await http.post("/auth/login", json={"username": name, "password": PASSWORD})).json()
    return id, {"Authorization": f"Bearer {pair['access_token']}"}


async def statuses(http: httpx2.AsyncClient, *callers: dict[str, str]) -> list[int]:
    return [(await http.get("/users/me", headers=headers)).status_code for headers in callers]


@pytest.mark.timeout(180)
async def test_lost_events_bring_no_revoked_token_back(world: World, servers: Servers) -> None:
    admin = {"Authorization": world.admin}
    async with httpx2.AsyncClient(base_url=world.url, timeout=60) as http:
        users = [await enter(http, name) for name in ("stays", "leaves", "gone", "demoted")]
        (_, stays), (_, leaves), (gone_id, gone), (demoted_id, demoted) = users
        assert (await http.put(f"/users/{demoted_id}", json={"roles": ["admin"]}, headers=admin)).status_code == 200
        login = {"username": "demoted", "password": PASSWORD}
        pair = (await http.post("/auth/login", json=login)).json()
        demoted = {"Authorization": f"Bearer {pair['access_token']}"}
        assert (await http.get("/users", headers=demoted)).status_code == 200
        await http.put(f"/users/{demoted_id}", json={"roles": ["user"]}, headers=admin)
        await http.post("/auth/logout", headers=leaves)
        await http.post(f"/users/{gone_id}/deactivate", headers=admin)

        servers.nats.kill()
        (streams,) = (servers.home / "nats").glob("**/streams/EVENTS")
        shutil.rmtree(streams)
        servers.nats.start()
        await servers._provision()
        for service in AFFECTED:
            world.restart(service)
        await asyncio.to_thread(wait_ready, world.url, [])

        assert await statuses(http, stays, leaves, gone, demoted) == [200, 401, 401, 200]
        assert (await http.get("/users", headers=demoted)).status_code == 403
