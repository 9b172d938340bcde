"""A second gateway for the same services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers import free_port
from tests.support.world import World, start, wait_ready


@contextmanager
def another_gateway(world: World) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start(world.servers, "services.http_gateway", "gateway", "unused", AIDEVOS_PORT=str(port))
    try:
        wait_ready(url, [process])
        yield url
    finally:
        process.terminate()
        process.wait(20)
