"""Signing keys of running services: rotated under load and dropped at once."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import jwt

from aidevos.contracts.errors import Failure
from aidevos.security.keys import load_ring
from tests.support.gateways import another_gateway
from tests.support.http import http_client
from tests.support.logins import KEY_NOTICE, Person, bearer, login, register
from tests.support.paths import ROOT
from tests.support.world import NatsEntryPoint, World, wait_ready

ADA = Person("ada", "ada@example.org")
WITHIN = 2.0


async def rotate(world: World, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "aidevos.cli.main", "signing-keys", "rotate", *options),
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'libs'}:{ROOT}",
            "AIDEVOS_HOME": str(world.servers.home),
            "AIDEVOS_KEY_NOTICE": str(KEY_NOTICE),
        },
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


async def logged_in(http: httpx2.AsyncClient, name: str) -> dict[str, Any]:
    answer = await login(http, name)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@asynccontextmanager
async def repeat_in_background(*works: Callable[[], Awaitable[None]]) -> AsyncIterator[list[int]]:
    """Repeat each of these in the background and count the rounds; the first failure fails the test."""
    rounds, ends = [0] * len(works), asyncio.Event()

    async def keep(number: int) -> None:
        while not ends.is_set():
            await works[number]()
            rounds[number] += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(len(works)):
            tasks.create_task(keep(number))
        yield rounds
        ends.set()


async def test_no_request_fails_while_keys_are_rotated(
    world: World, http: httpx2.AsyncClient, over_nats: NatsEntryPoint
) -> None:
    await register(http, ADA)
    pair = old = await logged_in(http, "ada")
    signed_with: set[str] = set()

    async def log_in() -> None:
        signed_with.add(kid((await logged_in(http, "ada"))["access_token"]))

    async def refresh() -> None:
        nonlocal pair
        answer = await http.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
        assert answer.status_code == 200, answer.text
        pair = answer.json()
        assert (await http.get("/auth/me", headers=bearer(pair))).status_code == 200

    async def read() -> None:
        assert (await http.get("/users/me", headers=bearer(old))).status_code == 200

    async def count() -> None:
        await over_nats.call("counter", "load", "increment", authorization=world.token("counter:write"))

    async with repeat_in_background(log_in, refresh, read, count, count) as rounds:
        for _ in range(2):
            await rotate(world)
            shown = (await http.get("/.well-known/jwks.json")).json()["keys"]
            ring = load_ring(world.servers.home)
            assert [key["kid"] for key in shown] == [key.id for key in ring]
            waiting = ring[-1]
            assert waiting.id not in signed_with
            async with asyncio.timeout(KEY_NOTICE + 20):
                while not (waiting.id in signed_with and kid(pair["access_token"]) == waiting.id):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert time.time() >= waiting.made_at + KEY_NOTICE

    assert len(signed_with) == 3
    assert min(rounds) > 10


async def test_a_dropped_key_is_dead_everywhere_and_sessions_go_on(
    world: World, http: httpx2.AsyncClient, over_nats: NatsEntryPoint
) -> None:
    await register(http, Person("eve", "eve@example.org"))
    pair, forged = await logged_in(http, "eve"), world.token(roles=("admin",))
    mine = f"Bearer {pair['access_token']}"
    with another_gateway(world) as url:
        async with http_client(base_url=url, timeout=20) as second:

            async def statuses() -> set[int]:
                """Return the statuses for tokens that every verifier has verified before."""
                answers = [await door.get("/users/me", headers=bearer(pair)) for door in (http, second)]
                answers += [await door.get("/users", headers={"Authorization": forged}) for door in (http, second)]
                calls = (("counter", "drop", "value", forged), ("user", pair["user"]["id"], "read", mine))
                return {answer.status_code for answer in answers} | {
                    await outcome(over_nats.call(type, id, method, authorization=shown))
                    for type, id, method, shown in calls
                }

            assert await statuses() == {200}
            await rotate(world, "--now")
            async with asyncio.timeout(WITHIN):
                while await statuses() != {401}:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            refreshed = await http.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
            again = await second.get("/users/me", headers=bearer(refreshed.json()))
            over = await outcome(over_nats.call("counter", "drop", "value", authorization=world.admin))

    assert (refreshed.status_code, again.status_code, over) == (200, 200, 200)
    assert (await logged_in(http, "eve"))["user"] == pair["user"]
    assert len((await http.get("/.well-known/jwks.json")).json()["keys"]) == 1


async def test_each_rotation_is_in_the_security_log_once(world: World, over_nats: NatsEntryPoint) -> None:
    await rotate(world)
    rotated = {key.id: [key.cause] for key in load_ring(world.servers.home) if key.cause != "first"}
    async with asyncio.timeout(20):
        while not rotated.items() <= (await log_of(world, over_nats)).items():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    world.restart("authentication")
    wait_ready(world.url, [])
    await rotate(world, "--now")
    (last,) = load_ring(world.servers.home)
    async with asyncio.timeout(20):
        while (entries := await log_of(world, over_nats)).get(last.id) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    assert entries.items() >= (rotated | {last.id: ["emergency"]}).items()


async def log_of(world: World, door: NatsEntryPoint) -> dict[str, list[str]]:
    """Return the reasons of the log entries by key ID."""
    found: dict[str, list[str]] = {}
    page = await door.query("audit", "search", {"action": "keys.rotated", "limit": 200}, authorization=world.admin)
    for entry in page["items"]:
        found.setdefault(entry["target"], []).append(entry["reason"])
    return found


async def outcome(call: Awaitable[Any]) -> int:
    try:
        await call
    except Failure as failure:
        return failure.status
    return 200
