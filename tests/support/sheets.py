"""A process that serves the type `sheet`, whose objects keep their history."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import nats

from aidevos.contracts import subjects
from tests.support.world import World, start


@contextmanager
def serving_sheets(world: World) -> Iterator[None]:
    host = start(world.servers, "tests.support.sheet_host", "objects", world.database, AIDEVOS_IDLE_AFTER="1")
    yield
    host.terminate()
    host.wait(20)
    asyncio.run(_forget_type(world))


async def _forget_type(world: World) -> None:
    """Leave the announcements of the shared services as they were."""
    connection = await nats.connect(world.servers.nats_url("fleet"))
    bucket = subjects.TYPES_BUCKET
    await connection.jetstream().purge_stream(f"KV_{bucket}", subject=f"$KV.{bucket}.sheet")
    await connection.close()
