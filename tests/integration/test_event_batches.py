"""Events published together cost the server one write; without batch support they still all arrive."""

from __future__ import annotations

import asyncio
import secrets

import nats
import pytest

from aidevos.durable.bus.jetstream import LARGE, JetStreamBus
from aidevos.durable.hosting.provision import events_stream
from tests.support.servers import Servers

BATCH = "Nats-Batch-Id"


@pytest.mark.parametrize("batches", [True, False])
async def test_events_published_at_once_go_as_one_batch_where_the_stream_takes_it(
    servers: Servers, batches: bool
) -> None:
    connection = await nats.connect(servers.nats_url("fleet"))
    js, bus = connection.jetstream(), JetStreamBus(connection)
    if not batches:
        await js.update_stream(events_stream(servers.settings()), allow_atomic=False)
    sizes = {f"small-{number}": 10 for number in range(50)} | {"large": LARGE + 1}
    things = {f"{secrets.token_hex(6)}-{name}": size for name, size in sizes.items()}

    async def publish(thing: str, size: int) -> int:
        scope, subject = f"event.thing.{thing}.>", f"event.thing.{thing}.changed"
        return await bus.publish(subject, b"x" * size, f"{thing}:1", number=1, scope=scope, after=0)

    try:
        sequences = await asyncio.gather(*(publish(thing, size) for thing, size in things.items()))
        stored = [await js.get_msg("EVENTS", sequence) for sequence in sequences]
    finally:
        await js.update_stream(events_stream(servers.settings()))
        await connection.close()

    assert [message.subject.split(".")[2] for message in stored if message.subject] == list(things)
    found = [(message.headers or {}).get(BATCH) for message in stored]
    assert [id is not None for id in found] == [*[batches] * 50, False]
    assert len({*found[:-1]}) == 1
