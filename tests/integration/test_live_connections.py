"""Live streams through the real HTTP server: connections that end, hang, or exceed the limit."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator

import httpx2
import msgspec
import pytest

from aidevos.durable.bus.jetstream import JetStreamBus
from services.http_gateway.live import endless_body
from tests.support.gateway_world import World, assert_problem, eventually, gateway_world
from tests.support.http import http_client
from tests.support.servers import Servers
from tests.support.sse import Source


@pytest.fixture
async def world(servers: Servers) -> AsyncIterator[World]:
    async with gateway_world(servers, max_caller_streams=3) as world:
        yield world


async def publish(world: World, thing: str, count: int, size: int = 0) -> None:
    """Publish events of an object of the type `thing`, as its host would."""
    bus, after = JetStreamBus(world.host.connection), 0
    for number in range(1, count + 1):
        id = f"thing:{thing}:{number}"
        document = {
            "specversion": "1.0",
            "id": id,
            "source": f"/durable-objects/thing:{thing}",
            "type": "thing.happened",
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "data": {"number": number, "text": "x" * size},
        }
        subject, payload = f"event.thing.{thing}.happened", msgspec.json.encode(document)
        scope = f"event.thing.{thing}.>"
        after = await bus.publish(subject, payload, id, number=number, scope=scope, after=after)


async def test_a_reader_that_does_not_read_takes_no_memory_and_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endless_body, "WRITE_WITHIN", 1.0)
    thing, headers = secrets.token_hex(6), world.authorized("admin")
    count, size = 60, 500_000
    with socket.create_connection(("127.0.0.1", httpx2.URL(world.url).port or 80)) as slow:
        authorization = f"authorization: {headers['Authorization']}"
        slow.sendall(f"GET /events?type=thing&id={thing} HTTP/1.1\r\nhost: x\r\n{authorization}\r\n\r\n".encode())
        fast = await Source(world.anonymous, headers, type="thing", id=thing).opened()
        await publish(world, thing, count, size)
        await fast.wait(count)
        await asyncio.sleep(1.5)  # longer than a chunk may take
        slow.setblocking(False)
        received = await _read_rest(slow)

    assert [shown["number"] for shown in fast.shown] == list(range(1, count + 1))
    assert b"thing.happened" in received
    # The kernel's buffers, and the reader's queue, which is freed when the reader is cut off.
    assert len(received) < count * size / 2
    await fast.close()


async def test_a_server_that_ends_lets_its_readers_go_at_once(servers: Servers) -> None:
    async with http_client(timeout=30) as http:
        async with gateway_world(servers) as world:
            http.base_url = httpx2.URL(world.url)
            sources = [await Source(http, world.authorized("admin")).opened() for _ in range(3)]
            ending = time.monotonic()
        took = time.monotonic() - ending
        for source in sources:
            await source.ended()
            assert [(seen.event, seen.data["reason"]) for seen in source.seen] == [("end", "draining")]
    assert took < 3


async def test_a_caller_s_streams_are_bounded_and_a_reader_that_has_gone_makes_room(world: World) -> None:
    headers = world.authorized("admin")
    sources = [await Source(world.anonymous, headers).opened() for _ in range(3)]

    refused = await world.anonymous.get("/events", headers=headers)
    assert_problem(refused, 429, "rate-limited")
    assert int(refused.headers["retry-after"]) > 0
    await sources[0].close()

    async def opens() -> bool:
        async with world.anonymous.stream("GET", "/events", headers=headers) as answer:
            return answer.status_code == 200

    await eventually(opens)
    for source in sources:
        await source.close()


async def test_all_streams_of_a_process_are_bounded(servers: Servers) -> None:
    async with gateway_world(servers, max_streams=1) as world:
        source = await Source(world.anonymous, world.authorized("admin")).opened()
        assert_problem(await world.anonymous.get("/events", headers=world.authorized("admin")), 503, "overloaded")
        await source.close()


async def _read_rest(slow: socket.socket) -> bytes:
    """Return the bytes left in the kernel's buffers of a dropped connection."""
    received, loop = b"", asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while chunk := await loop.sock_recv(slow, 65536):
                received += chunk
    return received
