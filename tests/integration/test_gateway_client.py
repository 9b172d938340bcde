"""The gateway's client: one logical request, with as many attempts as its deadline allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.client.client import DurableObjectClient
from aidevos.durable.client.connection import connect
from tests.support.servers import Servers


class Callee:
    """Receives every request to the type `target`, for the test to answer."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._requests: asyncio.Queue[Msg] = asyncio.Queue()

    async def start(self) -> None:
        await self._connection.subscribe(subjects.owned("target"), cb=self._requests.put)

    async def next(self) -> Msg:
        async with asyncio.timeout(5):
            return await self._requests.get()

    async def answer(self, request: Msg, payload: bytes) -> None:
        await self._connection.publish(request.reply, payload)

    async def refuse(self, request: Msg, code: str) -> None:
        failure = Failure(code, "not me")
        await self._connection.publish(request.reply, failure.encode(), headers={envelope.ERROR_CODE: code})


@pytest.fixture
async def callee(servers: Servers) -> AsyncIterator[Callee]:
    connection = await nats.connect(servers.nats_url("objects"), inbox_prefix="_INBOX_objects")
    callee = Callee(connection)
    await callee.start()
    yield callee
    await connection.close()


@pytest.fixture(params=["the product's connection", "a connection of nats-py"])
async def client(
    servers: Servers, callee: Callee, request: pytest.FixtureRequest
) -> AsyncIterator[DurableObjectClient]:
    url = servers.nats_url("gateway")
    connection: Client
    if request.param == "a connection of nats-py":
        connection = await nats.connect(url, inbox_prefix="_INBOX_gateway")
    else:
        connection = await connect(url, "gateway")
    client = DurableObjectClient(connection, lambda: "Bearer x", attempt_timeout=0.3, default_deadline=5)
    await client.start()
    yield client
    await connection.close()


def request_id(message: Msg) -> tuple[str, int]:
    client, _, number = (message.headers or {})[envelope.REQUEST_ID].rpartition(".")
    return client, int(number)


def acknowledged(message: Msg) -> int:
    return int((message.headers or {})[envelope.REQUEST_ACK])


async def test_an_attempt_without_an_answer_is_repeated_with_the_same_id_and_less_time(
    client: DurableObjectClient, callee: Callee
) -> None:
    waiting = asyncio.create_task(client.call("target", "a", "go", x=1))
    first, second = await callee.next(), await callee.next()
    await callee.answer(second, b"7")

    assert await waiting == 7
    assert request_id(first) == request_id(second)
    assert first.data == second.data == b'{"x":1}'
    deadlines = [int((message.headers or {})[envelope.DEADLINE]) for message in (first, second)]
    assert deadlines[0] > deadlines[1] > 0


async def test_the_owners_answer_counts_though_another_said_moved_before(
    client: DurableObjectClient, callee: Callee
) -> None:
    waiting = asyncio.create_task(client.call("target", "a", "go"))
    request = await callee.next()
    await callee.refuse(request, "moved")
    await callee.answer(request, b"1")

    assert await waiting == 1


async def test_a_failure_that_is_the_objects_own_is_not_retried(client: DurableObjectClient, callee: Callee) -> None:
    waiting = asyncio.create_task(client.call("target", "a", "go"))
    await callee.refuse(await callee.next(), "overloaded")

    with pytest.raises(Failure) as raised:
        await waiting

    assert raised.value.code == "overloaded"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(callee.next(), 0.5)


async def test_an_object_that_is_slow_holds_back_no_acknowledgement_of_another(
    client: DurableObjectClient, callee: Callee
) -> None:
    slow = asyncio.create_task(client.call("target", "slow", "go"))
    held = await callee.next()
    for _ in range(2):
        quick = asyncio.create_task(client.call("target", "quick", "go"))
        seen = await callee.next()
        while ".quick." not in seen.subject:
            seen = await callee.next()
        await callee.answer(seen, b"1")
        await quick

    assert acknowledged(seen) == request_id(seen)[1] > request_id(held)[1]
    await callee.answer(held, b"1")
    await slow


async def test_requests_to_one_object_are_acknowledged_up_to_the_oldest_that_waits(
    client: DurableObjectClient, callee: Callee
) -> None:
    older = asyncio.create_task(client.call("target", "a", "go"))
    first = await callee.next()
    newer = asyncio.create_task(client.call("target", "a", "go"))
    second = await callee.next()

    assert acknowledged(first) == acknowledged(second) == request_id(first)[1] < request_id(second)[1]
    await callee.answer(second, b"2")
    await callee.answer(first, b"1")
    assert (await older, await newer) == (1, 2)


async def test_a_payload_that_would_cut_the_connection_is_refused_here(
    client: DurableObjectClient, callee: Callee, servers: Servers
) -> None:
    limit = servers.settings().max_body
    with pytest.raises(Failure) as raised:
        await client.request("do.target.a.go", b"x" * (limit + 64 * 1024))
    assert raised.value.code == "too-large"

    waiting = asyncio.create_task(client.request("do.target.a.go", b"x" * limit))
    await callee.answer(await callee.next(), b"1")
    assert await waiting == b"1"


async def test_nobody_there_is_unavailable_at_the_deadline(client: DurableObjectClient) -> None:
    with pytest.raises(Failure) as raised:
        await client.object("nobody", "a", deadline=0.2).go()

    assert (raised.value.code, raised.value.retry_after) == ("unavailable", 1.0)
