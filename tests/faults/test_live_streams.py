"""Live streams while gateways are killed and readers reconnect: no reader misses an event, on either bus."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator

import httpx2
import nats
import pytest

from tests.support.http import http_client
from tests.support.kits import repeats
from tests.support.sse import Source
from tests.support.world import NatsEntryPoint, World, wait_ready

READERS = 60
KILLS = repeats(3)
MESSAGES = 100 * KILLS

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def door(world: World) -> AsyncIterator[NatsEntryPoint]:
    connection = await nats.connect(world.servers.nats_url("client"))
    yield NatsEntryPoint(connection)
    await connection.close()


class Wanderer:
    """A reader that disconnects now and then, and resumes after its last event."""

    def __init__(self, http: httpx2.AsyncClient, headers: dict[str, str], room: str, random: random.Random) -> None:
        self.numbers: list[int] = []
        self.resumed = 0
        self.opened = asyncio.Event()
        self._http = http
        self._headers = headers
        self._room = room
        self._random = random

    async def read(self, count: int) -> None:
        """Return once this many messages have arrived."""
        place = ""
        while len(self.numbers) < count:
            leave_after = self._random.randint(1, 60)
            source = Source(self._http, self._headers, place, type="chat_room", id=self._room)
            try:
                missing = min(leave_after, count - len(self.numbers))
                await source.until(lambda source=source: self._is_enough(source, missing), within=60)  # noqa: B023
            finally:
                await source.close()
            self.numbers += [shown["message"]["number"] for shown in source.shown]
            place = source.last_event_id
            self.resumed += 1
            await asyncio.sleep(self._random.random() / 10)

    def _is_enough(self, source: Source, missing: int) -> bool:
        if source.last_event_id:
            self.opened.set()
        return source.done or len(source.shown) >= missing


@pytest.mark.parametrize("world", ["jetstream", "rabbitmq"], indirect=True)
async def test_readers_miss_nothing_while_they_reconnect_and_the_gateway_is_killed(
    world: World, door: NatsEntryPoint
) -> None:
    room, write = secrets.token_hex(6), world.token("chat_room:write")
    headers = {"Authorization": world.token("events:read", "chat_room:read")}
    limits = httpx2.Limits(max_connections=None)
    async with http_client(base_url=world.url, limits=limits) as http:
        readers = [Wanderer(http, headers, room, random.Random(seed)) for seed in range(READERS)]
        reading = [asyncio.create_task(reader.read(MESSAGES)) for reader in readers]
        await asyncio.gather(*(reader.opened.wait() for reader in readers))
        for number in range(1, MESSAGES + 1):
            payload = b'{"text":"%d"}' % number
            await door.call("chat_room", room, "post", payload, authorization=write)
            if number % (MESSAGES // (KILLS + 1)) == 0 and number < MESSAGES:
                await asyncio.to_thread(world.restart, "http_gateway")
        await asyncio.to_thread(wait_ready, world.url, [])
        async with asyncio.timeout(90):
            await asyncio.gather(*reading)

    assert [reader.numbers for reader in readers] == [list(range(1, MESSAGES + 1))] * READERS
    assert sum(reader.resumed for reader in readers) > READERS * KILLS
