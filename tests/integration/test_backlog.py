"""What waits in the NATS server for a client that doesn't read."""

from __future__ import annotations

import asyncio
import json
import secrets
from urllib.parse import urlsplit

import nats
import pytest

from tests.support.servers import Servers

SIZE = 900_000
COUNT = 120


@pytest.mark.timeout(60)
async def test_a_client_that_pauses_finds_everything_that_was_sent_to_it(servers: Servers) -> None:
    """By default, the server cuts off a client for which 64 MiB wait."""
    url, subject = urlsplit(servers.nats_url("fleet")), f"backlog.{secrets.token_hex(4)}"
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    options = {"user": url.username, "pass": url.password, "verbose": False}
    await reader.readline()
    writer.write(f"CONNECT {json.dumps(options)}\r\nSUB {subject} 1\r\nPING\r\n".encode())
    while await reader.readline() != b"PONG\r\n":
        pass

    publisher = await nats.connect(servers.nats_url("fleet"))
    for _ in range(COUNT):
        await publisher.publish(subject, bytes(SIZE))
    await publisher.flush()
    received = 0
    while received < COUNT * SIZE and (chunk := await reader.read(1 << 20)):
        received += len(chunk)

    writer.close()
    await publisher.close()
    assert received >= COUNT * SIZE
