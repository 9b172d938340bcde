"""What whole processes do for a few requests at a time, from the bytes that they read to those that they write."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from uvicorn.server import ServerState

from aidevos.contracts import envelope
from aidevos.contracts.rate_limits import QUOTA_TYPE
from aidevos.durable.access.authenticator import CallAuthenticator
from aidevos.durable.base.clock import SystemClock
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.client.client import DurableObjectClient, RequestIds
from aidevos.durable.client.connection import Connection, encode_message
from aidevos.durable.hosting.reception import Reception
from aidevos.durable.hosting.replies import ReplySender
from aidevos.durable.hosting.runtime import Runtime
from aidevos.durable.objects.registry import DurableObjectRegistry
from aidevos.durable.turns.environment import Limits
from aidevos.observability import tracing
from aidevos.observability.tracing import Recorder
from aidevos.projects.gate import ProjectGate
from aidevos.security.permissions import Principal
from aidevos.settings import load
from services.http_gateway.bootstrap import server_config
from services.objects.counter import Counter
from tests.bench.guard import wire
from tests.bench.guard.driver import DrivenStore
from tests.bench.guard.stand_ins import UNUSED, AnsweringClient, Run, admission_of, gateway

# Requests that a process reads at once, and the objects that they address in turn.
AT_ONCE, OBJECTS = 4, 64
# A command's name and arguments.
INCREMENT = b"increment", b'{"by":1}'
NOT_SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
NO_MORE: Mapping[str, str] = {}


async def serve_http(stack: AsyncExitStack) -> Run:
    """Serve calls over HTTP from the bytes of the requests to those of the responses, with a few at a time."""
    loop, waiting = asyncio.get_running_loop(), _Waiting()

    def answer(data: bytes) -> None:
        answers = [b"MSG %b 1 1\r\n7\r\n" % subject for subject in wire.replies_in(data)]
        loop.call_soon(server.receive, b"".join(answers))

    connection, server = wire.connect(answer)
    client = DurableObjectClient(connection, lambda: "")
    wire.hand_over(connection, 1, "_INBOX_gateway.>", client._on_reply)
    with patch.object(Connection, "hand_over", _nothing):
        await client.start()
    quotas: Any = _OwnQuotas(client)
    app, token = await gateway(quotas)
    settings = load({})
    config = server_config(settings, app)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Mon, 30 Nov 2026 12:00:00 GMT")]
    protocols: list[Any] = [
        config.http_protocol_class(config=config, server_state=state, app_state={}) for _ in range(AT_ONCE)
    ]
    for protocol in protocols:
        protocol.connection_made(wire.HttpTransport(waiting.end))
    body = b'{"method":"value","args":{}}'
    head = f"POST /durable-objects/counter:hot/request HTTP/1.1\r\nHost: bench\r\nAuthorization: {token}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\nContent-Type: application/json\r\n\r\n".encode() + body

    async def run() -> None:
        waiting.begin(AT_ONCE)
        for protocol in protocols:
            protocol.data_received(request)
        await waiting.done

    return run


async def host_query(stack: AsyncExitStack) -> Run:
    return await _host(stack, b"value", b"")


async def host_command(stack: AsyncExitStack) -> Run:
    return await _host(stack, *INCREMENT)


async def trace_http(stack: AsyncExitStack) -> Run:
    return _tracing(await serve_http(stack))


async def trace_host_query(stack: AsyncExitStack) -> Run:
    return _tracing(await _host(stack, b"value", b"", {envelope.TRACEPARENT: NOT_SAMPLED}))


def _tracing(run: Run) -> Run:
    """Serve while traces are exported, but none of these."""
    recorder = Recorder(lambda context, span: None, ratio=0.0, slow_after=math.inf)

    async def traced() -> None:
        tracing.recorder = recorder
        try:
            await run()
        finally:
            tracing.recorder = None

    return traced


async def _host(stack: AsyncExitStack, method: bytes, payload: bytes, more: Mapping[str, str] = NO_MORE) -> Run:
    """Serve calls from the bytes that NATS sends to those of the answers, with a few at a time."""
    waiting, store = _Waiting(), DrivenStore()
    connection, server = wire.connect(lambda data: waiting.end(wire.count_answers(data)))
    registry, admission, tokens = DurableObjectRegistry([Counter]), *admission_of(1)
    partitions = Partitions(1, lambda: True)
    partitions.take("counter", [0])
    lease: Any = SimpleNamespace(valid=partitions.is_live)
    principal = Principal("objects", roles=("service",))
    runtime = Runtime(
        registry,
        store,
        UNUSED,
        UNUSED,
        SystemClock(),
        ProjectGate(UNUSED),
        incarnation="guard",
        principal=principal,
        partitions=partitions,
        limits=Limits(),
    )
    stack.push_async_callback(runtime.close)
    await store.open("counter")
    limiter: Any = UNUSED
    authenticator = CallAuthenticator(admission, limiter, lambda subject: False, lambda message, headers: 1)
    reception = Reception(runtime, lease, connection, authenticator, ReplySender(connection))
    wire.hand_over(connection, 1, "dop.0.counter.>", reception._receive)
    headers = {
        envelope.AUTHORIZATION: tokens[0],
        envelope.CLIENT_ADDRESS: "127.0.0.1",
        envelope.HTTP_REQUEST_ID: "0" * 24,
        **more,
    }
    ids, numbers = RequestIds(time.time), itertools.count()

    def message(method: bytes, payload: bytes) -> bytes:
        number = ids.take("counter.hot")
        ids.settle(number, "counter.hot")
        own = {
            envelope.REQUEST_ID: f"{ids.client}.{number}",
            envelope.REQUEST_ACK: str(number),
            envelope.DEADLINE: "10000",
        }
        target = next(numbers) % OBJECTS
        subject = b"dop.0.counter.c%d.%b" % (target, method)
        return b"HMSG %b 1 _INBOX_gateway.abcdef.%x %b" % (subject, target, encode_message(payload, headers | own))

    async def run(method: bytes, payload: bytes) -> None:
        waiting.begin(AT_ONCE)
        server.receive(b"".join([message(method, payload) for _ in range(AT_ONCE)]))
        await waiting.done

    # A query of an object that doesn't exist would read it anew each time.
    for _ in range(2 * OBJECTS // AT_ONCE):
        await run(*INCREMENT)
    return partial(run, method, payload)


class _Waiting:
    """Answers that are waited for."""

    def begin(self, count: int) -> None:
        self._left = count
        self.done = asyncio.get_running_loop().create_future()

    def end(self, count: int = 1) -> None:
        self._left -= count
        if not self._left:
            self.done.set_result(None)


class _OwnQuotas:
    """A client that answers for quotas, and sends everything else."""

    def __init__(self, client: DurableObjectClient) -> None:
        self._client = client

    def request(self, subject: str, payload: bytes, **options: Any) -> Awaitable[bytes]:
        return (AnsweringClient() if QUOTA_TYPE in subject else self._client).request(subject, payload, **options)


async def _nothing(*_: object) -> None: ...
