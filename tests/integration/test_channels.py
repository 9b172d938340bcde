"""Commands that the event loop itself sends to MongoDB, over connections of the driver."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from bson import encode
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo.errors import NetworkTimeout, OperationFailure, ProtocolError

from aidevos.durable.store.mongo_channels import COMPRESSED, HEADER, INNER_HEADER, Channels, open_reply
from tests.support.cutting_proxy import CuttingProxy
from tests.support.kits import begun, until
from tests.support.servers import Servers

WITHIN = 10.0


@pytest.fixture
def client(servers: Servers, database: str) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]](servers.mongo_url, appname="channels") as client:
        client[database].numbers.insert_many([{"_id": number} for number in range(3)])
        yield client


async def find(channels: Channels, number: int) -> list[int]:
    reply = await channels.command({"find": "numbers", "filter": {"_id": number}})
    return [found["_id"] for found in reply["cursor"]["firstBatch"]]


def taken(client: pymongo.MongoClient[dict[str, Any]]) -> int:
    """Return the number of connections that the driver has lent."""
    (server,) = client._topology._servers.values()
    return int(server.pool.active_sockets)


async def test_commands_at_once_get_their_own_replies_and_connections_are_used_again(
    client: pymongo.MongoClient[dict[str, Any]], database: str
) -> None:
    channels = Channels(client, database, WITHIN)

    for _ in range(3):
        assert await asyncio.gather(*(find(channels, number % 3) for number in range(9))) == [
            [number % 3] for number in range(9)
        ]
    assert taken(client) <= 9

    channels.close()
    assert taken(client) == 0
    assert client[database].numbers.count_documents({}) == 3


async def test_a_refused_command_raises_and_leaves_its_connection_to_the_driver(
    client: pymongo.MongoClient[dict[str, Any]], database: str
) -> None:
    channels = Channels(client, database, WITHIN)

    with pytest.raises(OperationFailure):
        await channels.command({"find": "numbers", "filter": {"$unknown": 1}})

    assert taken(client) == 0
    assert await find(channels, 2) == [2]
    channels.close()


@pytest.mark.parametrize("cancelled", [True, False])
async def test_no_command_gets_the_reply_to_one_that_nobody_waits_for(
    client: pymongo.MongoClient[dict[str, Any]], database: str, cancelled: bool
) -> None:
    channels = Channels(client, database, WITHIN if cancelled else 0.1)
    await find(channels, 0)
    slow = {"failCommands": ["find"], "appName": "channels", "blockConnection": True, "blockTimeMS": 300}
    client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=slow)

    waiting = await begun(find(channels, 1))
    if cancelled:
        waiting.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else NetworkTimeout):
        await waiting

    assert taken(client) == 0
    assert await find(channels, 2) == [2]
    channels.close()


async def test_a_connection_that_the_server_has_closed_meanwhile_fails_no_command(
    servers: Servers, client: pymongo.MongoClient[dict[str, Any]], database: str
) -> None:
    async with CuttingProxy(servers.mongo_url) as proxy:
        with pymongo.MongoClient[dict[str, Any]](proxy.url) as through:
            channels = Channels(through, database, WITHIN)
            await find(channels, 0)
            (channel,) = channels._free
            proxy.drop()
            await until(lambda: not channel.is_usable)

            assert await find(channels, 1) == [1]
            channels.close()


async def test_large_commands_and_replies_pass_in_parts(
    client: pymongo.MongoClient[dict[str, Any]], database: str
) -> None:
    channels = Channels(client, database, WITHIN)
    texts = {str(number): "x" * 7_000_000 for number in range(2)}

    insert = {"insert": "texts", "documents": [{"_id": id, "text": text} for id, text in texts.items()]}
    assert (await channels.command(insert))["n"] == 2
    reply = await channels.command({"find": "texts", "filter": {}})

    assert {found["_id"]: found["text"] for found in reply["cursor"]["firstBatch"]} == texts
    channels.close()


def test_a_reply_is_opened_if_it_answers_this_command_compressed_or_not() -> None:
    content = b"\0\0\0\0\0" + encode({"ok": 1.0})
    packed = INNER_HEADER.pack(2013, len(content), 2) + zlib.compress(content)
    plain = HEADER.pack(16 + len(content), 9, 7, 2013) + content
    compressed = HEADER.pack(16 + len(packed), 9, 7, COMPRESSED) + packed

    for reply in (plain, compressed):
        assert open_reply(reply, 7, 1000).command_response(DEFAULT_CODEC_OPTIONS) == {"ok": 1.0}
        with pytest.raises(ProtocolError):
            open_reply(reply, 8, 1000)
