"""A cluster of three NATS servers: its streams are copied to each, and connections survive the loss of a server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import closing

import msgspec
import nats
import pytest
from nats.aio.client import Client

from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket
from aidevos.durable.client.connection import connect, connect_once
from aidevos.durable.hosting.provision import provision, read_partitions
from aidevos.security.tls import client_context
from aidevos.settings import SettingsError
from tests.support.nats_cluster import NatsCluster, wait_for_copies
from tests.support.servers import Servers

STREAMS = [f"KV_{name}" for name in (subjects.HOSTS_BUCKET, subjects.PLACEMENT_BUCKET, subjects.TYPES_BUCKET)]
STREAMS += [subjects.EVENTS_STREAM, subjects.TELLS_STREAM]


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Return a cluster whose streams have one copy."""
    with closing(NatsCluster(servers.mongo_url, tmp_path_factory.mktemp("cluster"), replicas=1)) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def cluster(running: NatsCluster) -> Iterator[NatsCluster]:
    yield running
    for name in running.members:
        running.start_member(name)


async def connect_to(cluster: NatsCluster) -> Client:
    """Connect once all streams are complete again, as they are not at once after another test has killed a server."""
    connection = await nats.connect(cluster.nats_url("fleet").split(","))
    await wait_for_copies(connection.jetstream())
    return connection


async def test_existing_streams_and_buckets_get_their_copies_and_keep_what_they_hold(cluster: NatsCluster) -> None:
    connection = await connect_to(cluster)
    js = connection.jetstream()
    before = {name: (await js.stream_info(name)).config for name in STREAMS}
    assert {config.num_replicas for config in before.values()} == {1}
    bucket = Bucket(connection, subjects.TYPES_BUCKET)
    revision = await bucket.set("thing", b"{}", 0)
    partitions = await read_partitions(connection)

    await provision(connection, msgspec.structs.replace(cluster.settings, stream_replicas=3))

    await wait_for_copies(js)
    after = {name: await js.stream_info(name) for name in STREAMS}
    assert {len(found.cluster.replicas or ()) for found in after.values() if found.cluster} == {2}
    assert {name: after[name].config for name in before} == {
        name: config.evolve(num_replicas=3) for name, config in before.items()
    }
    assert await bucket.get("thing") == (b"{}", revision)
    assert await read_partitions(connection) == partitions
    await connection.close()


async def test_more_copies_than_servers_are_refused(cluster: NatsCluster, servers: Servers) -> None:
    small = await nats.connect(servers.nats_url("fleet"))
    with pytest.raises(SettingsError, match=r"AIDEVOS_STREAM_REPLICAS=3: .* isn't in a cluster of at least 3 servers"):
        await provision(small, servers.settings(stream_replicas=3))
    await small.close()

    connection = await connect_to(cluster)
    with pytest.raises(SettingsError, match="AIDEVOS_STREAM_REPLICAS=5"):
        await provision(connection, msgspec.structs.replace(cluster.settings, stream_replicas=5))
    await connection.close()


async def test_a_connection_moves_to_another_server_of_the_cluster_with_its_user(cluster: NatsCluster) -> None:
    name, reconnected = f"mover-{secrets.token_hex(4)}", asyncio.Event()
    # Only the first server is named; it tells of the others.
    one, *_ = cluster.nats_url("client").split(",")
    connection = await connect(one, name, on_reconnect=reconnected.set)
    first = next(member for member in cluster.members if name in cluster.connections_of(member))

    cluster.kill(first)

    await asyncio.wait_for(reconnected.wait(), 10)
    assert any(name in cluster.connections_of(member) for member in cluster.members if member != first)
    await connection.close()


async def test_a_server_that_is_down_keeps_nobody_from_connecting(cluster: NatsCluster) -> None:
    cluster.kill("n1")
    for _ in range(3):
        connection = await connect(cluster.nats_url("client"), "late")
        await connection.close()
        once = await connect_once(cluster.nats_url("client"), client_context(cluster.settings))
        await once.close()


async def test_connections_leave_a_server_that_hangs(cluster: NatsCluster) -> None:
    name, reconnected = f"hung-{secrets.token_hex(4)}", asyncio.Event()
    connection = await connect(cluster.nats_url("client"), name, on_reconnect=reconnected.set)
    hung = next(member for member in cluster.members if name in cluster.connections_of(member))

    cluster.pause(hung)

    await asyncio.wait_for(reconnected.wait(), 8)
    await connection.close()


async def test_a_key_is_read_from_the_leader_even_if_other_servers_may_answer(cluster: NatsCluster) -> None:
    connection = await connect_to(cluster)
    asked = await connection.subscribe("$JS.API.STREAM.MSG.GET.KV_direct")
    await connection.jetstream().create_key_value(bucket="direct", direct=True, replicas=3)
    bucket = Bucket(connection, "direct")
    kept, removed = await bucket.set("kept", b"value", 0), await bucket.set("removed", b"value", 0)
    await bucket.delete("removed", removed)

    assert await bucket.get("kept") == (b"value", kept)
    assert await bucket.get("removed") == (None, removed + 1)
    assert await bucket.get("missing") == (None, 0)

    for _ in range(3):
        await asked.next_msg(timeout=2)
    await connection.close()
