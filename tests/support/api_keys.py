"""API keys with limits of their own."""

from __future__ import annotations

import secrets
from typing import Any

import httpx2

from tests.support.world import World


async def key_of(world: World, http: httpx2.AsyncClient, **limits: Any) -> str:
    """Create an API key with its own limits."""
    name = f"ada{secrets.token_hex(6)}"
    person = {"username": name, "email": f"{name}@example.org", "password": "wheelbarrow at noon"}
    user = (await http.post("/auth/register", json=person)).json()["id"]
    headers = {"Authorization": world.admin, "Content-Type": "application/merge-patch+json"}
    (await http.patch(f"/users/{user}", json={"roles": ["admin"]}, headers=headers)).raise_for_status()
    pair = (await http.post("/auth/login", json={"username": name, "password": person["password"]})).json()
    body = {"name": "ci", "scopes": ["*"], "limits": limits}
    made = await http.post("/api-keys", json=body, headers={"Authorization": f"Bearer {pair['access_token']}"})
    return f"ApiKey {made.raise_for_status().json()['key']}"
