"""The hot paths of a request, without servers: `python -m tests.bench.guard.paths` runs them, marked for callgrind.

Promise: a path does what a process of the fleet does for each request, from the same entry points. What other processes
would add is replaced: the network, the store's driver, and the answers of services.
"""

from __future__ import annotations

import asyncio
import gc
import math
import select
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from nats.aio.subscription import Subscription

from aidevos.contracts import envelope
from aidevos.contracts.data import ITEM_TYPE, item_object
from aidevos.durable.access.authenticator import trusted_headers
from aidevos.durable.base import slices
from aidevos.durable.client.connection import Connection, encode_message
from aidevos.durable.store.memory import MemoryStore
from aidevos.durable.store.port import Document, Find
from aidevos.observability.slow_log import slow_log
from aidevos.settings import load
from aidevos.testing import ObjectKit
from services.data_storage.service import service as data_storage
from services.objects.counter import Counter
from tests.bench.guard.driver import DrivenStore, stored
from tests.bench.guard.processes import (
    AT_ONCE,
    host_command,
    host_query,
    serve_http,
    trace_host_query,
    trace_http,
)
from tests.bench.guard.stand_ins import ITEM, AnsweringClient, Run, admission_of, gateway

# The C function that runs a path: the interpreter's operator `@`, which nothing else here uses. Callgrind counts what
# happens inside it.
MARK = "PyNumber_MatrixMultiply"
READY = "ready"
OBJECTS = 64
TOKENS = 40
PAGE = 20


class HotPath(NamedTuple):
    """`prepare` returns a function that serves `requests` requests; it is run `times` times."""

    prepare: Callable[[AsyncExitStack], Awaitable[Run]]
    times: int
    requests: int = 1


async def read_request(stack: AsyncExitStack) -> Run:
    """Read a request from the wire, up to its trusted headers."""
    connection = Connection()

    def take(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        trusted_headers(connection.open_message(subject, reply, data, headers))

    connection._subs[1] = Subscription(connection, 1, "dop.7.counter.>")
    connection._takers[1] = take
    headers = {
        envelope.AUTHORIZATION: f"Bearer {'x' * 500}",
        envelope.REQUEST_ID: "0" * 26,
        envelope.DEADLINE: "10000",
        envelope.CLIENT_ADDRESS: "127.0.0.1",
    }
    sized = encode_message(b'{"by":1}', headers)
    wire = b"HMSG dop.7.counter.hot.increment 1 _INBOX_gateway.abcdef.1f " + sized
    return lambda: connection._ps.parse(wire)


async def check_token(stack: AsyncExitStack) -> Run:
    """Authenticate a caller whose token this process knows."""
    admission, tokens = admission_of(1)
    return _call(lambda: admission.authenticate(tokens[0], "127.0.0.1"))


async def verify_token(stack: AsyncExitStack) -> Run:
    """Verify a token that this process sees for the first time."""
    admission, tokens = admission_of(TOKENS)
    unseen = iter(tokens)
    return _call(lambda: admission.authenticate(next(unseen), "127.0.0.1"))


async def query(stack: AsyncExitStack) -> Run:
    kit = await stack.enter_async_context(ObjectKit(Counter, store=DrivenStore()))
    await kit.call("counter", "hot", "increment")
    return lambda: kit.call("counter", "hot", "value")


async def command(stack: AsyncExitStack) -> Run:
    """Run a turn of each of many objects, and commit them in one batch."""
    return await _commands(stack, DrivenStore())


async def encode_commits(stack: AsyncExitStack) -> Run:
    """Encode a batch of commits for the driver."""
    store = DrivenStore()
    await (await _commands(stack, store))()
    commits = store.committed
    assert len(commits) == OBJECTS, "the commits have formed no batch"
    return lambda: store.mongo.commit("counter", commits)


async def _commands(stack: AsyncExitStack, store: DrivenStore) -> Run:
    kit = await stack.enter_async_context(ObjectKit(Counter, store=store))
    ids = [f"c{number}" for number in range(OBJECTS)]
    for id in ids:
        await kit.call("counter", id, "increment")
    return lambda: asyncio.gather(*(kit.call("counter", id, "increment", by=1) for id in ids))


async def show_page(stack: AsyncExitStack) -> Run:
    """Find a page of items, decode what the driver returns, and encode the answer."""
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    store = _PageStore()
    kit = await stack.enter_async_context(ObjectKit(data_storage, store=store, settings=load({}, home=home)))
    await kit.call("collection", "things", "configure", config={"indexes": [["price"]]})
    for number in range(PAGE):
        args = {"collection": "things", "id": f"i{number}", "data": ITEM | {"price": number}}
        await kit.call(ITEM_TYPE, item_object("things", f"i{number}"), "create", **args)
    await kit.settle()
    wanted = {"collection": "things", "filter": {"price": {"gte": 0}}, "sort": "price", "limit": PAGE}
    page = await kit.query(ITEM_TYPE, "find", **wanted)
    assert len(page["items"]) == PAGE, "the page isn't full"
    return lambda: kit.query(ITEM_TYPE, "find", **wanted)


class _PageStore(MemoryStore):
    """A store in memory whose searches do the work of the MongoDB store."""

    def __init__(self) -> None:
        super().__init__()
        self._driven = DrivenStore()

    async def find(self, type: str, wanted: Find) -> list[Document]:
        if type != ITEM_TYPE:
            return await super().find(type, wanted)
        if not self._driven.driver.documents:
            self._driven.driver.documents = [stored(found) for found in await super().find(type, wanted)]
        return await self._driven.find(type, wanted)


async def call_object(stack: AsyncExitStack) -> Run:
    """Serve a call of an object's method over HTTP."""
    return await _serve("POST", "/durable-objects/counter:hot/request", b'{"method":"value","args":{}}')


async def read_item(stack: AsyncExitStack) -> Run:
    """Serve a read of an item over HTTP."""
    return await _serve("GET", "/data/collections/things/i7")


async def _serve(verb: str, path: str, body: bytes = b"") -> Run:
    app, token = await gateway(AnsweringClient())
    headers = [(b"host", b"bench"), (b"authorization", token.encode()), (b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", b"application/json"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": verb,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        sent.clear()
        await app({**scope, "headers": list(headers), "state": {}}, receive, send)
        assert sent[0]["status"] == 200, sent

    return run


def _call(function: Callable[[], object]) -> Run:
    async def run() -> object:
        return function()

    return run


PATHS = {
    "read a request from the wire": HotPath(read_request, 400),
    "check a known token": HotPath(check_token, 400),
    "verify a new token": HotPath(verify_token, 20),
    "query of an object": HotPath(query, 100),
    "command, in a batch": HotPath(command, 5, OBJECTS),
    "encode a commit": HotPath(encode_commits, 20, OBJECTS),
    "page of 20 items": HotPath(show_page, 20),
    "gateway, call of an object": HotPath(call_object, 100),
    "gateway, read of an item": HotPath(read_item, 100),
    "gateway, from HTTP to HTTP": HotPath(serve_http, 25, AT_ONCE),
    "host, query over NATS": HotPath(host_query, 25, AT_ONCE),
    "host, command over NATS": HotPath(host_command, 25, AT_ONCE),
    "gateway, trace not recorded": HotPath(trace_http, 25, AT_ONCE),
    "host, trace not recorded": HotPath(trace_host_query, 25, AT_ONCE),
}


async def _repeat(run: Run, times: int) -> None:
    for _ in range(times):
        await run()


class _Marked:
    """A function that `self @ None` calls: the interpreter does so through `MARK`."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function

    def __matmul__(self, other: None) -> None:
        self._function()


def main() -> None:
    """Prepare and warm up all paths, wait for a line on stdin, and run each path, within `MARK`."""
    # Neither the collector nor pauses for other work, which depend on the pace of the machine.
    gc.disable()
    slices.SLICE = math.inf
    # Everything is slow under callgrind.
    slow_log.configure(math.inf, math.inf, math.inf)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        runs = [(runner.run(path.prepare(stack)), path.times) for path in PATHS.values()]
        for run, times in runs:
            runner.run(_repeat(run, times))
        print(READY, flush=True)
        # Callgrind takes its orders only while the process does something.
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            pass
        for run, times in runs:
            _ = _Marked(partial(runner.run, _repeat(run, times))) @ None
        runner.run(stack.aclose())


if __name__ == "__main__":
    main()
