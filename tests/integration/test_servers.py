"""The permissions of each NATS user, the subject mapping, and proof that the fixtures' faults are real."""

from __future__ import annotations

import asyncio
import socket
import stat
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import nats.micro
import pymongo
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from pymongo.errors import OperationFailure

from aidevos.contracts import subjects
from aidevos.durable.client.connection import connect_once
from aidevos.security.tls import client_context
from aidevos.settings import load
from tests.support.servers import Servers


async def connect(servers: Servers, user: str) -> tuple[Client, asyncio.Queue[str]]:
    refused: asyncio.Queue[str] = asyncio.Queue()

    async def on_error(error: Exception) -> None:
        refused.put_nowait(str(error).lower())

    prefix = b"_INBOX" if user in ("client", "fleet") else f"_INBOX_{user}".encode()
    connection = await nats.connect(servers.nats_url(user), inbox_prefix=prefix, error_cb=on_error)
    return connection, refused


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


async def first(errors: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(5):
        return await errors.get()


async def test_a_request_reaches_the_partition_that_the_contract_computes(servers: Servers) -> None:
    host, _ = await connect(servers, "objects")
    client, _ = await connect(servers, "client")

    async def answer(message: Msg) -> None:
        await message.respond(message.subject.encode())

    await host.subscribe("dop.*.counter.>", cb=answer)
    await host.flush()
    for id in ("clicks", "a", "01J8-_x", "z" * 128):
        reply = await client.request(subjects.call("counter", id, "increment"), b"", timeout=2)
        assert reply.data.decode() == f"dop.{subjects.partition('counter', id)}.counter.{id}.increment"
    with pytest.raises(NoRespondersError):
        await client.request(subjects.call("nobody", "here", "increment"), b"", timeout=2)
    await host.close()
    await client.close()


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("client", "dop.*.counter.>"),
        ("client", "_INBOX_objects.>"),
        ("client", "_INBOX_gateway.>"),
        ("client", ">"),
        ("client", "tell.>"),
        ("client", "$KV.>"),
        ("gateway", "dop.>"),
        ("gateway", "_INBOX_objects.>"),
        ("objects", "_INBOX_gateway.>"),
        ("objects", "_INBOX.>"),
    ],
)
async def test_a_user_may_not_subscribe_to_what_is_not_its_own(servers: Servers, user: str, subject: str) -> None:
    connection, refused = await connect(servers, user)
    await connection.subscribe(subject)
    assert "subscription" in await first(refused)
    await connection.close()


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("client", "event.counter.clicks.incremented"),
        ("client", "$KV.hosts.counter"),
        ("client", "$JS.API.STREAM.DELETE.EVENTS"),
        ("client", "$JS.API.STREAM.PURGE.EVENTS"),
        ("client", "$JS.API.STREAM.MSG.GET.KV_hosts"),
        ("client", "$JS.API.CONSUMER.CREATE.KV_partitions"),
        ("client", "$JS.API.CONSUMER.DELETE.EVENTS.somebody"),
        ("client", "_INBOX_gateway.forged"),
        ("gateway", "event.counter.clicks.incremented"),
        ("gateway", "$KV.hosts.counter"),
        ("gateway", "$KV.partitions.counter"),
        ("gateway", "_INBOX.forged"),
        ("objects", "$JS.API.STREAM.DELETE.EVENTS"),
        ("objects", "_INBOX_fleet.forged"),
    ],
)
async def test_a_user_may_not_publish_what_is_not_its_own(servers: Servers, user: str, subject: str) -> None:
    connection, refused = await connect(servers, user)
    await connection.publish(subject, b"")
    assert "publish" in await first(refused)
    await connection.close()


async def test_a_host_keeps_buckets_and_events_and_a_client_reads_events_only(servers: Servers) -> None:
    host, host_refused = await connect(servers, "objects")
    client, client_refused = await connect(servers, "client")
    for bucket in ("hosts", "partitions", "types"):
        entries = await host.jetstream().key_value(bucket)
        revision = await entries.create("somebody", b"1", msg_ttl=60)
        await entries.update("somebody", b"2", last=revision)
        watcher = await entries.watch("somebody")
        seen = await watcher.updates()
        assert seen is not None
        assert seen.value == b"2"
        await watcher.stop()
        await entries.delete("somebody")
        await entries.purge("somebody")
    await host.jetstream().publish("event.counter.reader.incremented", b"{}", headers={"Nats-Msg-Id": "reader-1"})
    pull = await host.jetstream().pull_subscribe("event.counter.reader.>", durable="reader")
    await (await pull.fetch(1))[0].ack_sync()
    await host.jetstream().delete_consumer("EVENTS", "reader")

    live = await client.subscribe("event.counter.reader.>")
    js = client.jetstream()
    assert (await js.get_last_msg("EVENTS", "event.counter.reader.incremented", direct=True)).data == b"{}"
    assert (await js.get_msg("EVENTS", seq=1, subject="event.counter.reader.>", next=True, direct=True)).data == b"{}"
    await client.flush()
    await host.jetstream().publish("event.counter.reader.incremented", b"[]")
    assert (await live.next_msg(timeout=2)).data == b"[]"
    assert host_refused.empty()
    assert client_refused.empty()
    await host.close()
    await client.close()


@pytest.mark.parametrize(
    ("request_to", "payload"),
    [
        ("$JS.API.DIRECT.GET.EVENTS", b'{"seq":999999}'),
        ("$JS.API.STREAM.INFO.EVENTS", b""),
        ("$JS.API.DIRECT.GET.KV_types.$KV.types.nothing", b""),
        ("$SRV.PING", b""),
        ("$SRV.INFO", b""),
    ],
)
async def test_a_reply_subject_makes_no_server_publish_for_a_client(
    servers: Servers, request_to: str, payload: bytes
) -> None:
    host, _ = await connect(servers, "objects")
    service = await nats.micro.add_service(host, name="decoy", version="1.0.0")
    await host.jetstream().publish("event.counter.decoy.incremented", b"{}")
    client, _ = await connect(servers, "client")
    before = await _stored(host)

    targets = ["$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.DELETE.EVENTS", "$KV.types.evil", "event.forged.a.b"]
    for target in targets:
        await client.publish(request_to, payload, reply=target)
    await client.request("$SRV.PING.decoy", b"", timeout=2)
    await client.flush()

    assert await _stored(host) == before
    await service.stop()
    await client.close()
    await host.close()


async def _stored(host: Client) -> list[int]:
    """Return the number of stored messages in streams that a client might want to change."""
    infos = [await host.jetstream().stream_info(name) for name in ("EVENTS", "KV_types")]
    return [info.state.messages for info in infos]


async def test_the_gateway_watches_types_and_calls(servers: Servers) -> None:
    host, _ = await connect(servers, "objects")
    gateway, refused = await connect(servers, "gateway")
    types = await host.jetstream().key_value("types")
    await types.put("watched", b"{}")
    watcher = await (await gateway.jetstream().key_value("types")).watch("watched")
    seen = await watcher.updates()
    assert seen is not None
    assert seen.value == b"{}"

    async def answer(message: Msg) -> None:
        await message.respond(b"ok")

    for subject in ("dop.*.watched.>", "query.watched.>", "health.objects"):
        await host.subscribe(subject, cb=answer)
    await host.flush()
    for subject in ("do.watched.1.ping", "query.watched.list", "health.objects"):
        assert (await gateway.request(subject, b"", timeout=2)).data == b"ok"
    assert refused.empty()
    await types.purge("watched")
    await host.close()
    await gateway.close()


async def test_a_server_without_credentials_is_closed(servers: Servers) -> None:
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(servers.nats_url("client").replace("client:", "client:not"), allow_reconnect=False)
    stranger = servers.mongo_url.rpartition("@")[2]
    with pymongo.MongoClient[dict[str, Any]](f"mongodb://{stranger}") as client, pytest.raises(OperationFailure):
        client.aidevos.anything.find_one()


def test_secrets_are_readable_by_their_owner_alone(servers: Servers) -> None:
    for file in ("secrets.json", "nats/nats.conf", "mongo/key", "keys/signing.json"):
        assert stat.S_IMODE((servers.home / file).stat().st_mode) == 0o600


async def test_nats_can_be_killed_and_keeps_acknowledged_events(servers: Servers) -> None:
    connection, _ = await connect(servers, "objects")
    await connection.jetstream().publish("event.counter.kept.incremented", b"kept")
    await connection.close()
    servers.nats.kill()
    servers.nats.start()
    connection, _ = await connect(servers, "objects")
    kept = await connection.jetstream().get_last_msg("EVENTS", "event.counter.kept.incremented")
    assert kept.data == b"kept"
    await connection.close()


async def test_a_server_outlives_the_thread_that_started_it(servers: Servers) -> None:
    starting = threading.Thread(target=servers.nats.restart)
    starting.start()
    starting.join()
    # Python's thread has ended; the kernel, which would kill the server, may notice a moment later.
    while Path(f"/proc/self/task/{starting.native_id}").exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    connection = await nats.connect(servers.nats_url("client"), inbox_prefix=b"_INBOX_client", allow_reconnect=False)
    await connection.close()


def test_a_paused_server_says_nothing_until_it_is_resumed(servers: Servers) -> None:
    servers.nats.pause()
    with socket.create_connection(address(servers.nats_url("client"))) as stranger:
        stranger.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stranger.recv(4)
        servers.nats.resume()
        stranger.settimeout(5)
        assert stranger.recv(4) == b"INFO"


def test_mongo_can_be_killed_and_takes_writes_again_and_has_fail_points(servers: Servers, database: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        client[database].kept.insert_one({"_id": 1})
        servers.mongo.kill()
        servers.mongo.restart()
        client[database].kept.insert_one({"_id": 2})
        assert client[database].kept.count_documents({}) == 2
        fail = {"failCommands": ["insert"], "errorCode": 91}
        client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
        client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_mongodb_does_not_take_messages_that_are_compressed_with_zlib(servers: Servers) -> None:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url) as client:
        offered = client.admin.command("hello", compression=["zlib", "zstd"])["compression"]
    assert offered == ["zstd"]


async def test_a_command_gets_an_answer_as_the_user_of_clients(servers: Servers) -> None:
    host, _ = await connect(servers, "objects")

    async def answer(message: Msg) -> None:
        await message.respond(b"1")

    await host.subscribe("dop.>", cb=answer)
    await host.flush()
    command = await connect_once(servers.nats_url("client"), client_context(load({})))
    assert (await command.request("do.counter.c.value", b"", timeout=5)).data == b"1"
    await command.close()
    await host.close()
