"""A client of the collections, and a name for a new one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.support.http import http_client
from tests.support.logins import Person
from tests.support.world import World


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(base_url=f"{world.url}/data/collections", timeout=20) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"c{secrets.token_hex(8)}"


@pytest.fixture
def person() -> Person:
    name = f"Ada{secrets.token_hex(6)}"
    return Person(name, f"{name}@Example.org")
