"""Tokens of `aidevos token` in a running fleet: usable, listed, revoked by the command and over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.support.commands import make_home, run
from tests.support.world import World

Output = pytest.CaptureFixture[str]


@pytest.fixture
def home(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(world, tmp_path, monkeypatch)


async def refused(http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    """Return once the token is refused, which takes moments."""
    async with asyncio.timeout(10):
        while (status := (await http.get("/users", headers=headers)).status_code) == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert status == 401


async def logged(http: httpx2.AsyncClient, headers: dict[str, str], target: str, count: int) -> list[tuple[str, str]]:
    """Return the actions and actors of the first entries about a target; an entry follows its commit."""
    async with asyncio.timeout(10):
        while True:
            entries = (await http.get(f"/audit?target={target}&sort=at", headers=headers)).json()["items"]
            if len(entries) >= count:
                return [(entry["action"], entry["actor"]) for entry in entries]
            await asyncio.sleep(0.05)


async def test_a_token_of_the_command_works_until_it_is_revoked(world: World, home: Path, capsys: Output) -> None:
    admin = {"Authorization": world.admin}
    by_command, by_http = [
        {"Authorization": f"Bearer {await asyncio.to_thread(run, capsys, 'token', '--role', 'admin')}"} for _ in "12"
    ]
    async with httpx2.AsyncClient(base_url=world.url, timeout=30) as http:
        assert (await http.get("/users", headers=by_command)).status_code == 200
        assert (await http.get("/users", headers=by_http)).status_code == 200

        newest, older = (await http.get("/access-tokens?limit=2", headers=admin)).json()["items"]
        listed = await asyncio.to_thread(run, capsys, "tokens", "list")
        assert newest["id"] in listed
        assert older["id"] in listed
        first, second = sorted((newest["id"], older["id"]))
        await asyncio.to_thread(run, capsys, "tokens", "revoke", first)
        await refused(http, by_command)
        assert (await http.delete(f"/access-tokens/{second}", headers=by_http)).status_code == 204
        await refused(http, by_http)

        assert await logged(http, admin, second, 2) == [("token.issued", "service:cli"), ("token.revoked", "cli")]
        assert (await http.delete(f"/access-tokens/{second}", headers=admin)).status_code == 404
        assert (
            await http.get("/access-tokens", headers={"Authorization": world.token("users:read")})
        ).status_code == 403
