"""Events published together cost the server one write; without batch support they still all arrive."""

from __future__ import annotations

import secrets

import nats
import pytest

from aidevos.durable.bus.jetstream import JetStreamBus
from aidevos.durable.bus.port import Event
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
    things = [secrets.token_hex(6) for _ in range(25)]
    events = [event(thing, number) for thing in things for number in (1, 2)]

    try:
        sequences = await bus.publish_batch(events)
        stored = [await js.get_msg("EVENTS", sequence) for sequence in sequences if isinstance(sequence, int)]
    finally:
        await js.update_stream(events_stream(servers.settings()))
        await connection.close()

    # Events that are published one by one come in order only within an object.
    order = [*range(50)] if batches else [*range(0, 50, 2), *range(1, 50, 2)]
    by_sequence = sorted(stored, key=lambda message: message.seq or 0)
    assert [message.subject for message in stored] == [event.subject for event in events]
    ids = [(message.headers or {}).get("Nats-Msg-Id") for message in by_sequence]
    assert ids == [events[each].id for each in order]
    found = {(message.headers or {}).get(BATCH) for message in stored}
    assert len(found) == 1
    assert (found != {None}) is batches


def event(thing: str, number: int) -> Event:
    return Event(f"event.thing.{thing}.changed", b"x", f"{thing}:{number}", number, f"event.thing.{thing}.>", 0)
