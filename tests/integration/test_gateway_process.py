"""The gateway as a process: start, workers and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import httpx2
import nats
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support.gateway_world import FakeHost, eventually
from tests.support.http import http_client
from tests.support.servers import Servers, free_port


@pytest.fixture
async def host(servers: Servers) -> AsyncIterator[FakeHost]:
    connection = await nats.connect(servers.nats_url("objects"), inbox_prefix="_INBOX_objects")
    host = FakeHost(connection)
    await host.start("counter")
    yield host
    await host.leave()
    await connection.close()


@contextlib.asynccontextmanager
async def gateway(
    servers: Servers, port: int, stdin: socket.socket | None = None, **variables: str
) -> AsyncIterator[Process]:
    """A gateway that listens on the port, or accepts from the socket that is its standard input."""
    environment = {
        **os.environ,
        "AIDEVOS_HOME": str(servers.home),
        "AIDEVOS_NATS_URL": servers.nats_url("gateway"),
        "AIDEVOS_SERVICES": "objects",
        "AIDEVOS_PORT": str(port),
        "AIDEVOS_PUBLIC_URL": servers.public_url,
        **variables,
    }
    command = [sys.executable, "-m", "services.http_gateway", *(["--fd", "0"] if stdin else [])]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdin=stdin, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def client(servers: Servers, port: int) -> AsyncIterator[httpx2.AsyncClient]:
    token = servers.issuer().issue("someone", roles=("admin",))
    headers = {"Authorization": f"Bearer {token}"}
    async with http_client(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:

        async def ready() -> bool:
            with contextlib.suppress(httpx2.TransportError):
                return (await http.get("/health/ready")).status_code == 200
            return False

        await eventually(ready, seconds=20)
        yield http


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_serves_until_it_is_told_to_end_and_finishes_what_it_began(
    servers: Servers, host: FakeHost, workers: str
) -> None:
    port = free_port()
    async with gateway(servers, port, AIDEVOS_WORKERS=workers) as process, client(servers, port) as http:
        request = http.post("/durable-objects/counter:c/request", json={"method": "later"})
        waiting = asyncio.create_task(request)
        await eventually(host.was_asked)

        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        await host.connection.publish(host.last.reply, b"7")

        assert (await waiting).json() == {"result": 7}
        async with asyncio.timeout(10):
            assert await process.wait() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_connections_to_a_socket_that_it_inherits_survive_it(
    servers: Servers, host: FakeHost, workers: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        early = asyncio.create_task(ask_for_life(port))
        async with gateway(servers, port, stdin=listener, AIDEVOS_WORKERS=workers) as process:
            assert await early == 200
            process.kill()
        later = asyncio.create_task(ask_for_life(port))
        async with gateway(servers, port, stdin=listener, AIDEVOS_WORKERS=workers):
            assert await later == 200


async def ask_for_life(port: int) -> int:
    """Return the status of a request that is sent once."""
    async with http_client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
        return (await http.get("/health/live")).status_code


async def test_it_says_which_replica_is_well(servers: Servers, host: FakeHost) -> None:
    port = free_port()
    async with gateway(servers, port, AIDEVOS_REPLICA="7") as process, client(servers, port):
        asker = await nats.connect(servers.nats_url("fleet"))
        reply = await asker.request("health.http_gateway", timeout=5)
        await asker.close()
        assert process.returncode is None

    told = {"name": "http_gateway", "replica": 7, "ok": True, "detail": "", "problems": []}
    assert json.loads(reply.data) == told


async def test_the_counters_of_all_workers_are_shown_together(servers: Servers, host: FakeHost) -> None:
    port = free_port()
    async with gateway(servers, port, AIDEVOS_WORKERS="2"), client(servers, port) as http:

        async def all_answer() -> bool:
            return len(await find_samples(http, "aidevos_process_info")) == 2

        await eventually(all_answer, seconds=30)
        before = await count_pings(http)
        for _ in range(20):
            async with http_client(base_url=http.base_url) as another:
                await another.get("/health/live")

        assert await count_pings(http) == before + 20


async def find_samples(http: httpx2.AsyncClient, name: str) -> list[Sample]:
    """Return the samples of a metric in all processes."""
    text = (await http.get("/metrics?fleet=true")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return [sample for sample in samples if sample.name == name]


async def count_pings(http: httpx2.AsyncClient) -> float:
    requests = await find_samples(http, "aidevos_http_requests_total")
    return sum(each.value for each in requests if each.labels["route"] == "/health/live")


async def test_a_port_that_is_taken_is_named_and_ends_with_status_2(servers: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with gateway(servers, port) as process:
            _, complaint = await process.communicate()

    assert process.returncode == 2
    assert complaint.count(b"\n") == 1
    assert f"AIDEVOS_PORT={port}".encode() in complaint


async def test_a_wrong_setting_is_named_and_ends_with_status_2(servers: Servers) -> None:
    async with gateway(servers, 0) as process:
        _, complaint = await process.communicate()

    assert (process.returncode, complaint.count(b"\n")) == (2, 1)
    assert b"AIDEVOS_PORT" in complaint


async def test_workers_do_not_outlive_the_process_that_started_them(servers: Servers, host: FakeHost) -> None:
    port = free_port()
    async with gateway(servers, port, AIDEVOS_WORKERS="2") as process, client(servers, port):
        process.kill()

        async def free() -> bool:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return True
            return False

        await eventually(free, seconds=10)
