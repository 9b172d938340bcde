"""A service that should stop does so in time, whatever it waits for: a server that is gone or hangs, or its work."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from aidevos.contracts.errors import Failure
from tests.support.host_processes import client, eventually
from tests.support.http import http_client
from tests.support.programs import Program
from tests.support.servers import Servers, free_port

pytestmark = pytest.mark.timeout(90)
WITHIN = 5.0
# With the drain time of a fleet, which must not be waited for.
DRAIN = "15"


class Lost:
    """Ways to lose a server."""

    def __init__(self, servers: Servers) -> None:
        self.ways: dict[str, Callable[[], None]] = {
            "MongoDB killed": servers.mongo.kill,
            "MongoDB hangs": servers.mongo.pause,
            "NATS killed": servers.nats.kill,
            "NATS hangs": servers.nats.pause,
        }


WAYS = ["MongoDB killed", "MongoDB hangs", "NATS killed", "NATS hangs"]


@contextmanager
def running(servers: Servers, module: str, user: str, log: Path, **variables: str) -> Iterator[Program]:
    environment = {
        **os.environ,
        "AIDEVOS_HOME": str(servers.home),
        "AIDEVOS_NATS_URL": servers.nats_url(user),
        "AIDEVOS_MONGO_URL": servers.mongo_url,
        "AIDEVOS_EVENT_BUS_URL": "",
        "AIDEVOS_DRAIN_TIMEOUT": DRAIN,
        **variables,
    }
    program = Program([module], environment, str(log))
    try:
        yield program
    finally:
        program.kill()
        program.wait(10)


def stop(program: Program) -> tuple[int, float]:
    """Stop a program with SIGTERM. Return its exit status and how many seconds that took."""
    began = time.monotonic()
    program.terminate()
    status = program.wait(40)
    return status, time.monotonic() - began


@pytest.mark.parametrize("way", WAYS)
async def test_a_host_that_has_lost_a_server_stops_within_seconds(
    servers: Servers, database: str, tmp_path: Path, way: str
) -> None:
    id, log = secrets.token_hex(6), tmp_path / "log"
    with running(servers, "tests.support.lone_host", "objects", log, AIDEVOS_MONGO_DATABASE=database) as host:
        async with client(servers) as (caller, _):
            await caller.object("tally", id, deadline=30.0).add()
            Lost(servers).ways[way]()
            waiting = asyncio.ensure_future(caller.object("tally", id, deadline=3.0).add())
            await asyncio.sleep(0)
            status, seconds = await asyncio.to_thread(stop, host)
            outcome = await asyncio.gather(waiting, return_exceptions=True)
            servers.heal()

    assert status == 0, log.read_text()[-2000:]
    assert seconds < WITHIN, log.read_text()[-3000:]
    # What was not committed was not acknowledged.
    assert isinstance(outcome[0], Failure)


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_waits_for_a_server_at_its_start_stops_within_seconds(
    servers: Servers, database: str, tmp_path: Path, way: str
) -> None:
    log = tmp_path / "log"
    Lost(servers).ways[way]()
    with running(servers, "tests.support.lone_host", "objects", log, AIDEVOS_MONGO_DATABASE=database) as host:
        # Long enough to wait for the server; what it waits for is in no log.
        time.sleep(1.5)
        status, seconds = stop(host)

    assert status == 0, log.read_text()[-2000:]
    assert seconds < WITHIN, log.read_text()[-3000:]


@pytest.mark.parametrize("way", ["NATS killed", "NATS hangs"])
async def test_a_gateway_that_has_lost_nats_stops_within_seconds_with_streams_open(
    servers: Servers, tmp_path: Path, way: str
) -> None:
    log, port = tmp_path / "log", free_port()
    with gateway(servers, port, log) as program:
        async with streaming(servers, port) as streams:
            waiting = asyncio.ensure_future(streams.post("/durable-objects/counter:c/request", json={"method": "x"}))
            Lost(servers).ways[way]()
            status, seconds = await asyncio.to_thread(stop, program)
            await asyncio.gather(waiting, return_exceptions=True)

    assert (status, seconds < WITHIN) == (0, True), log.read_text()[-3000:]


async def test_a_gateway_with_open_streams_stops_at_once(servers: Servers, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    with gateway(servers, port, log) as program:
        async with streaming(servers, port):
            status, seconds = await asyncio.to_thread(stop, program)

    assert (status, seconds < WITHIN) == (0, True), log.read_text()[-3000:]


@contextmanager
def gateway(servers: Servers, port: int, log: Path) -> Iterator[Program]:
    own = {"AIDEVOS_PORT": str(port), "AIDEVOS_PUBLIC_URL": servers.public_url, "AIDEVOS_SERVICES": "http_gateway"}
    with running(servers, "services.http_gateway", "gateway", log, **own) as program:
        yield program


@asynccontextmanager
async def streaming(servers: Servers, port: int) -> AsyncIterator[httpx2.AsyncClient]:
    """Read live events from a gateway, and yield a client for it."""
    headers = {"Authorization": f"Bearer {servers.issuer().issue('someone', roles=('admin',))}"}

    async def ready() -> bool:
        with suppress(httpx2.TransportError):
            return (await http.get("/health/ready")).status_code == 200
        return False

    async with http_client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as http:
        await eventually(ready)
        async with http.stream("GET", "/events") as events:
            assert events.status_code == 200
            await anext(events.aiter_bytes())
            yield http
