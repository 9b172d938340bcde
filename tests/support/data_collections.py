"""Helpers for collections of documents over HTTP."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.support.world import World

USER = ("user",)


def headers_of(world: World, subject: str, *permissions: str) -> dict[str, str]:
    """Return the headers of a user with these permissions."""
    return {"Authorization": world.token(*permissions, roles=USER, subject=subject)}


async def create_item(http: httpx2.AsyncClient, name: str, headers: dict[str, str], data: Any, **body: Any) -> Any:
    answer = await http.post(f"/{name}", headers=headers, json={"data": data, **body})
    assert answer.status_code == 201, answer.text
    return answer.json()
