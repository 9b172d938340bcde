"""Items with a unique field, written while the data service or MongoDB is killed again and again.

The promise under test: no two items have the same value, acknowledged items exist, and no value is reserved for an
item that doesn't have it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.data_collections import headers_of
from tests.support.http import http_client
from tests.support.kits import repeats
from tests.support.world import World, wait_ready

ROUNDS = repeats(5)
WRITERS = 12
# So few values that writers compete for each.
VALUES = [f"v{number}" for number in range(8)]
BUSY = 0.8


@pytest.fixture
def collection() -> str:
    return f"/c{secrets.token_hex(8)}"


class Writer:
    """Writes one item over and over, and tracks its possible data."""

    def __init__(self, http: httpx2.AsyncClient, path: str, headers: dict[str, str]) -> None:
        self._http = http
        self._path = path
        self._headers = headers
        self._number = self.acknowledged = 0
        # The last acknowledged or seen data, and later writes without an answer.
        self.possible: list[Any] = [None]

    async def write_until(self, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self._write()

    async def _write(self) -> None:
        self._number += 1
        there = self.possible[0] is not None
        data = {"value": random.choice(VALUES), "number": self._number} if random.random() < 0.8 else None
        headers = self._headers | ({} if there else {"If-None-Match": "*"})
        try:
            if data is None:
                answer = await self._http.delete(self._path, headers=self._headers)
            else:
                answer = await self._http.put(self._path, headers=headers, json={"data": data})
        except httpx2.TransportError:
            self.possible.append(data)
            return
        if answer.is_success:
            self.possible = [data]
            self.acknowledged += 1
        elif answer.status_code >= 500:
            self.possible.append(data)
        elif answer.status_code == 404 and data is None and not there:
            self.possible = [None]
        elif answer.status_code != 409:
            # An unanswered request created or removed it.
            assert len(self.possible) > 1, answer.text
            await self.look()

    async def look(self) -> None:
        """Read the item, and check that its data is possible."""
        answer = await self._http.get(self._path, headers=self._headers)
        assert answer.status_code in (200, 404), answer.text
        data = answer.json()["data"] if answer.status_code == 200 else None
        assert data in self.possible, (self._path, data, self.possible)
        self.possible = [data]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["data_storage", "mongod"])
async def test_no_kill_gives_a_value_to_two_items_loses_a_write_or_leaves_a_value_to_nobody(
    world: World, victim: str, collection: str
) -> None:
    kill: Callable[[], None] = world.servers.mongo.restart if victim == "mongod" else lambda: world.restart(victim)
    ada = headers_of(world, "ada")
    async with http_client(base_url=f"{world.url}/data/collections", timeout=60) as http:
        assert (await http.put(collection, headers=ada, json={"unique": ["value"]})).status_code == 201
        writers = [Writer(http, f"{collection}/w{number}", ada) for number in range(WRITERS)]
        goal = 0
        for _ in range(ROUNDS):
            enough = asyncio.Event()
            writing = [asyncio.create_task(writer.write_until(enough)) for writer in writers]
            await asyncio.sleep(random.uniform(0.1, BUSY))
            await asyncio.to_thread(kill)
            await asyncio.sleep(random.uniform(0.1, BUSY))
            goal += WRITERS
            async with asyncio.timeout(60):
                while sum(writer.acknowledged for writer in writers) <= goal:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            enough.set()
            await asyncio.gather(*writing)
            await asyncio.to_thread(wait_ready, world.url, [])
            for writer in writers:
                await writer.look()
            taken = await values(http, collection, ada)
            assert sorted(taken) == sorted(data["value"] for data in known(writers))
            assert len(taken) == len(set(taken))
        for value in VALUES:
            wanted = await http.post(collection, headers=ada, json={"data": {"value": value}})
            assert wanted.status_code == (409 if value in taken else 201), wanted.text


def known(writers: list[Writer]) -> list[Any]:
    return [writer.possible[0] for writer in writers if writer.possible[0] is not None]


async def values(http: httpx2.AsyncClient, collection: str, headers: dict[str, str]) -> list[str]:
    page = (await http.get(collection, headers=headers, params={"limit": "500"})).json()
    return [item["data"]["value"] for item in page["items"]]
