"""A host's lease on a real server: it is renewed beside a busy loop, and at once after a reconnect."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from aidevos import Service
from aidevos.contracts import subjects
from aidevos.durable.base.clock import SystemClock
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect
from aidevos.durable.hosting import lease as leases
from aidevos.durable.hosting.lease import Lease
from aidevos.process.serving import serve
from aidevos.process.stack import open_lease_connection
from services.objects.counter import Counter
from tests.support.host_processes import client, eventually
from tests.support.http import http_client
from tests.support.servers import Servers, free_port


@asynccontextmanager
async def held(servers: Servers, ttl: int) -> AsyncIterator[Lease]:
    """Hold and keep a lease."""
    lease: Lease | None = None

    def suspend() -> None:
        if lease is not None:
            lease.suspend()

    def renew() -> None:
        if lease is not None:
            renewals.append(asyncio.ensure_future(lease.renew()))

    renewals: list[asyncio.Future[None]] = []
    async with open_lease_connection(
        servers.settings(), "test", on_disconnect=suspend, on_reconnect=renew
    ) as connection:
        name = f"test_{secrets.token_hex(4)}"
        lease = Lease(connection.hosts, "test", name, SystemClock(), ttl, run=connection.run, is_stalled=lambda: False)
        await lease.acquire()
        keeping = asyncio.create_task(lease.keep())
        await asyncio.sleep(0)
        try:
            yield lease
        finally:
            keeping.cancel()
            await lease.release()


@pytest.mark.timeout(30)
async def test_a_lease_is_renewed_while_the_loop_of_its_process_is_busy(servers: Servers) -> None:
    async with held(servers, ttl=2) as lease:
        lapses = _count_lapses(lease, 3.0)

    assert lapses == 0


@pytest.mark.timeout(60)
async def test_a_lost_connection_suspends_the_lease_and_its_return_renews_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LONGEST_PAUSE", 60.0)
    async with held(servers, 60 * leases.TRIES) as lease:
        servers.nats.stop()
        await eventually(lambda: _is_valid(lease, False))

        servers.nats.start()

        await eventually(lambda: _is_valid(lease, True))


@pytest.mark.timeout(60)
async def test_a_host_answers_again_as_soon_as_its_connections_are_back(
    servers: Servers, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LONGEST_PAUSE", 60.0)
    monkeypatch.setattr(leases, "TRIES", 1)
    settings = servers.settings("objects", mongo_database=database, lease=60)
    host = asyncio.create_task(serve(Service("objects", types=[Counter]), settings))
    try:
        async with client(servers) as (caller, _):
            before = await caller.call("counter", database, "increment", by=1)
            servers.nats.stop()
            servers.nats.start()
            after = await caller.object("counter", database, deadline=20).increment(by=1)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await host

    assert (before, after) == (1, 2)


@pytest.mark.timeout(60)
async def test_a_host_in_a_pod_has_the_pods_name_and_is_ready_under_a_lease(servers: Servers, database: str) -> None:
    port, pod = free_port(), f"objects-{secrets.token_hex(4)}"
    settings = servers.settings("objects", mongo_database=database, probe_port=port, host_name=pod)
    host = asyncio.create_task(serve(Service("objects", types=[Counter]), settings))
    try:
        async with http_client(base_url=f"http://127.0.0.1:{port}") as http:
            await eventually(lambda: _answers(http, "/health/ready", 200))
            connection = await connect(settings.nats_url, "test")
            leases = await Bucket(connection, subjects.HOSTS_BUCKET).keys("")
            await connection.close()
            servers.nats.stop()
            await eventually(lambda: _answers(http, "/health/ready", 503))
            alive = await _answers(http, "/health/live", 200)
            servers.nats.start()
            await eventually(lambda: _answers(http, "/health/ready", 200))
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await host

    assert [key for key in leases if f"-0_{pod}." in key]
    assert alive


async def _answers(http: httpx2.AsyncClient, path: str, status: int) -> bool:
    try:
        return (await http.get(path)).status_code == status
    except httpx2.TransportError:
        return False


def _count_lapses(lease: Lease, seconds: float) -> int:
    """Keep the loop from turning, and return at how many looks the lease was invalid."""
    lapses = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
        lapses += not lease.valid()
    return lapses


async def _is_valid(lease: Lease, valid: bool) -> bool:
    return lease.valid() is valid
