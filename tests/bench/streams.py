"""Measures the cost of idle readers of live streams."""

from __future__ import annotations

import asyncio
import subprocess
import time
from urllib.parse import urlsplit

import psutil

from tests.bench.cases import Stage
from tests.bench.comparison import Compared
from tests.bench.load import Sample
from tests.bench.processes import start
from tests.support.servers import free_port
from tests.support.world import wait_ready

CLIENTS = 1000
AT_ONCE = 50
SECONDS = 10.0
# Limits: KiB of the gateway's memory per reader, and percent of a core for all readers.
MEMORY = 64.0
CPU = 10.0


def measure(stage: Stage) -> list[Compared]:
    port = free_port()
    process = start(
        stage.world.servers,
        "services.http_gateway",
        "gateway",
        stage.world.database,
        AIDEVOS_PORT=str(port),
        AIDEVOS_MAX_CALLER_STREAMS=str(2 * CLIENTS),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_ready(url, [process])
        memory, cpu = asyncio.run(_measure(url, stage.authorization, process))
    finally:
        process.terminate()
        process.wait(20)
    name = f"{CLIENTS:,} idle readers of /events"
    return [
        _compared(f"{name}, memory", memory, MEMORY, "KiB each"),
        _compared(f"{name}, CPU", cpu, CPU, "% of a core"),
    ]


async def _measure(url: str, authorization: str, process: subprocess.Popen[bytes]) -> tuple[float, float]:
    gateway, opened = psutil.Process(process.pid), []
    try:
        opened.append(await _open(url, authorization))
        before = gateway.memory_info().rss
        for _ in range(CLIENTS // AT_ONCE):
            opened += await asyncio.gather(*(_open(url, authorization) for _ in range(AT_ONCE)))
        memory = (gateway.memory_info().rss - before) / CLIENTS / 1024
        began, spent = time.monotonic(), sum(gateway.cpu_times()[:2])
        await asyncio.sleep(SECONDS)
        cpu = 100 * (sum(gateway.cpu_times()[:2]) - spent) / (time.monotonic() - began)
    finally:
        for writer in opened:
            writer.close()
    return memory, cpu


async def _open(url: str, authorization: str) -> asyncio.StreamWriter:
    """Open a stream, and return it once it has begun."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    request = f"GET /events?type=item HTTP/1.1\r\nHost: bench\r\nAuthorization: {authorization}\r\n\r\n"
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head:
        raise RuntimeError(f"no stream: {head.decode()}")
    await reader.readuntil(b"id: ")
    return writer


def _compared(name: str, measured: float, allowed: float, unit: str) -> Compared:
    own, other = (Sample(0.0, value, value) for value in (measured, allowed))
    return Compared(name, "allowed", "p99", [own], [other], None, 1.0, unit)
