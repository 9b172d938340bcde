"""Registered users who are logged in."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

import httpx2

PASSWORD = "wheelbarrow at noon"


class Person(NamedTuple):
    id: str
    name: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str:
        return self.headers["Authorization"]


async def register(http: httpx2.AsyncClient) -> Person:
    """Register a new user and log in."""
    name = f"u{secrets.token_hex(8)}"
    body = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    assert (await http.post("/auth/register", json=body)).status_code == 201
    pair = (await http.post("/auth/login", json={"username": name, "password": PASSWORD})).json()
    return Person(pair["user"]["id"], name, {"Authorization": f"Bearer {pair['access_token']}"})


async def made(http: httpx2.AsyncClient, path: str, who: Person, **body: Any) -> Any:
    """Send a POST, check that it created something, and return that."""
    answer = await http.post(path, headers=who.headers, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()
