"""Dead letters for tests: bury them as a service does, and wait for their states."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import nats
from nats.aio.client import Client

from aidevos.contracts import envelope, subjects
from aidevos.contracts.dead_letters import Letter
from tests.support.world import World


async def bury(world: World, connection: Client, id: str, subject: str, **changed: Any) -> Letter:
    """Bury a letter with these fields, and return it."""
    made = Letter(
        id=id,
        kind="tell",
        source=f"counter:{id}",
        subject=subject,
        payload=b'{"by":3}',
        code="invalid",
        detail="no",
        attempts=1,
        at=time.time(),
    )
    made = msgspec.structs.replace(made, **changed)
    service = world.token("counter:write", "counter:read", roles=("service",), subject="service:tester")
    reply = await connection.request(
        subjects.call("dead_letter", id, "bury"),
        msgspec.msgpack.encode({"letter": made}),
        timeout=10,
        headers={envelope.AUTHORIZATION: service, envelope.CONTENT_TYPE: envelope.MSGPACK},
    )
    assert envelope.ERROR_CODE not in (reply.headers or {}), reply.data
    return made


async def bury_letters(world: World, *names: str, **changed: Any) -> None:
    """Bury a letter to the counter of each name."""
    connection = await nats.connect(world.servers.nats_url("client"))
    for name in names:
        await bury(world, connection, name, **{"subject": f"do.counter.{name}.increment", **changed})
    await connection.close()


async def read_until(
    http: httpx2.AsyncClient, headers: dict[str, str], id: str, holds: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the letter once `holds` is true of it."""
    async with asyncio.timeout(30):
        while True:
            answer = await http.get(f"/dead-letters/{id}", headers=headers)
            if answer.status_code == 200 and holds(answer.json()):
                return dict(answer.json())
            await asyncio.sleep(0.05)
