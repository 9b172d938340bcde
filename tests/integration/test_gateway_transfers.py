"""Imports of items: what a client may send before it may do anything, and what it may cost."""

from __future__ import annotations

import asyncio
import contextlib
import io
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
from nats.aio.msg import Msg

from aidevos.contracts import envelope, subjects
from aidevos.contracts.data import COLLECTION_TYPE, CREATABLE
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import EXPORT, TRANSFER
from services.http_gateway import item_files, line_files
from services.http_gateway.http.bodies import NDJSON
from services.http_gateway.item_files import ItemsRequest
from services.http_gateway.line_files import ImportLimits
from tests.support.charges import ScriptedLimits, admitted_request, charges_of
from tests.support.gateway_world import World, assert_problem, eventually, gateway_world
from tests.support.servers import Servers

pytestmark = pytest.mark.asyncio(loop_scope="module")

OPEN, HIDDEN = "/data/collections/open/import", "/data/collections/hidden/import"
MAX_LINES, MAX_BYTES = 20_000, 3_000_000
LINE = b'{"data":1}\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(servers: Servers) -> AsyncIterator[World]:
    """A gateway with small bounds; everyone may create items in `open`, and nobody knows of another collection."""
    bounds = {"max_import": MAX_BYTES, "max_import_lines": MAX_LINES, "max_transfers": 2, "max_caller_transfers": 1}
    async with gateway_world(servers, idle_timeout=1.0, **bounds) as world:

        async def answer(message: Msg) -> None:
            world.host.seen.append(message)
            if msgspec.json.decode(message.data)["collection"] == "open":
                await message.respond(b"null")
                return
            failure = Failure("not-found", "this collection doesn't exist")
            headers = {envelope.ERROR_CODE: failure.code, envelope.ERROR: failure.detail}
            await world.host.connection.publish(message.reply, failure.encode(), headers=headers)

        await world.host.connection.subscribe(subjects.query(COLLECTION_TYPE, CREATABLE), cb=answer)
        yield world


@pytest.fixture(autouse=True)
def _reset(world: World) -> None:
    world.host.reset()


@contextlib.asynccontextmanager
async def begun(world: World, headers: dict[str, str], path: str = OPEN) -> AsyncIterator[asyncio.StreamReader]:
    """An import that has sent its head and one line, and whose client then waits and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", httpx2.URL(world.url).port))
    reader, writer = await asyncio.open_connection(sock=client)
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: 99999\r\n\r\n".encode() + LINE)
    try:
        yield reader
    finally:
        writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(5):
        return int((await reader.readuntil(b"\r\n\r\n"))[9:12])


@pytest.mark.parametrize(
    ("path", "headers", "status", "asks"),
    [
        (HIDDEN, {}, 404, 1),
        ("/data/collections/a.b/import", {}, 422, 0),
        (OPEN, {"Content-Type": "text/csv"}, 415, 0),
    ],
)
async def test_what_can_t_be_imported_is_refused_before_its_body_is_read(
    world: World, path: str, headers: dict[str, str], status: int, asks: int
) -> None:
    async with begun(world, headers, path) as reader:
        assert await status_of(reader) == status
    assert len(world.host.seen) == asks


async def test_a_body_that_announces_too_much_is_refused_at_once(world: World) -> None:
    answer = await world.raw(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3000001\r\n\r\n" % OPEN.encode())

    assert answer.startswith(b"HTTP/1.1 413")
    assert not world.host.seen


async def test_the_bytes_of_an_import_are_bounded(world: World) -> None:
    async def body(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 100_000):
            yield b"x" * 99_999 + b"\n"

    assert (await world.anonymous.post(OPEN, content=body(MAX_BYTES))).status_code == 200
    assert_problem(await world.anonymous.post(OPEN, content=body(MAX_BYTES + 100_000)), 413, "too-large", "body")


async def test_the_lines_of_an_import_are_bounded_also_empty_ones(world: World) -> None:
    assert (await world.anonymous.post(OPEN, content=b"\n" * MAX_LINES)).status_code == 200
    assert_problem(await world.anonymous.post(OPEN, content=b"\n" * (MAX_LINES + 1)), 413, "too-large", "body")


async def test_the_imports_of_a_caller_and_of_all_are_bounded_and_end_with_their_connection(world: World) -> None:
    ada, bob, eve = (world.authorized(subject=name) for name in ("ada", "bob", "eve"))

    async def have_begun(count: int) -> bool:
        return len(world.host.seen) == count

    async def is_free() -> bool:
        return (await world.anonymous.post(OPEN, headers=ada, content=b"")).status_code == 200

    async with begun(world, ada):
        await eventually(partial(have_begun, 1))
        second = await world.anonymous.post(OPEN, headers=ada, content=b"")
        assert_problem(second, 429, "rate-limited")
        assert second.headers["retry-after"] == "1"
        async with begun(world, bob):
            await eventually(partial(have_begun, 2))
            assert_problem(await world.anonymous.post(OPEN, headers=eve, content=b""), 503, "overloaded")
    await eventually(is_free)


async def test_a_refused_import_takes_no_place(world: World) -> None:
    for _ in range(5):
        assert (await world.anonymous.post(HIDDEN, content=b"")).status_code == 404
    assert (await world.anonymous.post(OPEN, content=b"")).status_code == 200


async def test_a_client_that_reads_no_results_loses_them_and_its_place(world: World) -> None:
    line = b'{"%b":1}\n' % (b"a" * 300)
    body = line * (MAX_BYTES // len(line))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", httpx2.URL(world.url).port))
        client.setblocking(False)
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (OPEN.encode(), len(body))
        await asyncio.get_running_loop().sock_sendall(client, head + body)

        async def is_full() -> bool:
            return (await world.anonymous.post(OPEN, content=b"")).status_code == 429

        async def has_begun_to_answer() -> bool:
            return bool(select.select([client], [], [], 0)[0])

        await eventually(has_begun_to_answer, seconds=30)
        assert await is_full()
        await eventually(lambda: _is_not(is_full), seconds=10)


async def test_an_export_that_fails_in_the_middle_is_noticed_and_goes_on_where_it_is_asked_to(world: World) -> None:
    line = {"type": "counter", "id": "a", "state": {"value": 1}}
    asked: list[dict[str, Any]] = []

    async def answer(message: Msg) -> None:
        args = msgspec.json.decode(message.data)
        asked.append(args)
        if args.get("after") == "a" and len(asked) == 2:
            failure = Failure("conflict", "the moment is gone")
            headers = {envelope.ERROR_CODE: failure.code, envelope.ERROR: failure.detail}
            await world.host.connection.publish(message.reply, failure.encode(), headers=headers)
            return
        items = [] if "after" in args else [line]
        await message.respond(msgspec.json.encode({"items": items, "moment": "7.1"}))

    serving = await world.host.connection.subscribe(subjects.query("counter", EXPORT), cb=answer)
    path, mover = "/durable-objects/counter/export", world.authorized(permissions=(TRANSFER,))
    async with world.anonymous.stream("GET", path, params={"where": '{"value": 1}'}, headers=mover) as broken:
        with pytest.raises(httpx2.RemoteProtocolError):
            await broken.aread()
    rest = await world.anonymous.get(path, params={"moment": "7.1", "after": "a"}, headers=mover)
    await serving.unsubscribe()

    assert (broken.status_code, broken.headers["export-moment"]) == (200, "7.1")
    assert (rest.status_code, rest.content) == (200, b"")
    assert asked == [
        {"where": {"value": 1}},
        {"where": {"value": 1}, "moment": "7.1", "after": "a"},
        {"moment": "7.1", "after": "a"},
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [("where=x", "where"), ("where=[]", "where"), ("limit=1", "limit"), ("on_conflict=x", "on_conflict")],
)
async def test_an_export_with_a_wrong_parameter_is_refused_by_name(world: World, query: str, field: str) -> None:
    answer = await world.http.get(f"/durable-objects/counter/export?{query}")

    assert_problem(answer, 422, "invalid", field)


async def test_each_line_of_an_import_of_objects_has_its_result(world: World) -> None:
    lines = [b'{"type": "counter", "id": "silly"', b'{"type": "nothing", "id": "a", "state": {}}', b"", b'{"id": "a"}']
    lines.append(b'{"type": "counter", "id": "../x", "state": {}}')

    answer = await world.http.post(
        "/durable-objects/import", content=b"\n".join(lines), headers={"Content-Type": NDJSON}
    )

    results = [msgspec.json.decode(line) for line in answer.content.splitlines()]
    assert [(each["line"], each["problem"]["code"]) for each in results] == [
        (1, "bad-request"),
        (2, "unknown-type"),
        (4, "invalid"),
        (5, "invalid"),
    ]
    assert not world.host.seen
    wrong = await world.http.post("/durable-objects/import?on_conflict=never", content=b"")
    assert_problem(wrong, 422, "invalid", "on_conflict")


async def _is_not(condition: Callable[[], Awaitable[bool]]) -> bool:
    return not await condition()


@pytest.mark.parametrize("line", [b"\n", b"x\n"])
async def test_others_have_their_turn_between_the_lines(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is there at once, so nothing but the import itself lets others run."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": line * 6400, "more_body": False}

    async def make_items(forwarder: Any, request: Any, collection: str, batch: list[Any]) -> list[Any]:
        return [item_files.BulkResult(status=201) for _ in batch]

    monkeypatch.setattr(item_files, "make_items", make_items)
    results: Any = SimpleNamespace(write=lambda data: None)
    running = asyncio.create_task(others())
    await asyncio.sleep(0)
    forwarder: Any = None
    wanted = ItemsRequest(forwarder, charges_of(ScriptedLimits()), admitted_request(receive), "c")

    await line_files.load_lines(item_files.import_of(wanted, ImportLimits(10_000, MAX_BYTES, MAX_BYTES)), results)

    running.cancel()
    assert turns >= 6400 // line_files.LINES_AT_ONCE


async def test_results_that_nobody_awaits_are_not_read_to_their_end() -> None:
    async def gone() -> None: ...

    request: Any = SimpleNamespace(gone=gone)
    chunks = 0

    async for _ in line_files.read_back(request, io.BytesIO(b"x" * 10 * line_files.CHUNK)):
        chunks += 1
        await asyncio.sleep(0)

    assert chunks == 1
