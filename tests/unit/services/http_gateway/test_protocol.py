"""The gateway's connections: their limits for what a client sends, for its pace, and for reading answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import uvicorn
from starlette.types import Receive, Scope, Send

from services.http_gateway.http.protocol import HEAD_LIMIT, MAX_PIPELINED, ConnectionLimits, ProblemProtocol
from services.http_gateway.http.responses import HttpResponse, send_response
from tests.support.gateway_world import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = ConnectionLimits(head=0.3, idle=0.3, rate=1000, window=0.2, linger=0.1)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
BIG = 16 * 1024 * 1024


class Gateway:
    """A server on a free port whose application shows what it received, once it may read and answer."""

    def __init__(self) -> None:
        self.port = 0
        self.protocols: list[ProblemProtocol] = []
        self.released = asyncio.Event()
        self.reading = asyncio.Event()
        self.seen: list[Any] = []
        self.ends: list[str] = []

    def reset(self) -> None:
        """Forget all requests, and read and answer those that come."""
        self.released.set()
        self.reading.set()
        self.seen.clear()
        self.ends.clear()
        self.protocols.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for step in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{step}.complete"})
            return
        self.seen.append(scope["path"])
        if scope["path"] in ("/early", "/parts"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"early", "more_body": True})
        await self.reading.wait()
        if scope["path"] == "/parts":
            await send({"type": "http.response.body", "body": b"late"})
            return
        body, more = b"", scope["path"] != "/unread"
        while more:
            message = await receive()
            body += message.get("body", b"")
            self.ends += [message["type"]] if message["type"] == "http.disconnect" else []
            more = message.get("more_body", False)
        await self.released.wait()
        names = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        shown = msgspec.json.encode([scope["path"], names, len(body)])
        await send_response(HttpResponse(200, bytes(BIG) if scope["path"] == "/big" else shown), send)

    def protocol(self, **options: Any) -> ProblemProtocol:
        protocol = ProblemProtocol(limits=LIMITS, **options)
        self.protocols.append(protocol)
        return protocol

    async def is_connected(self) -> bool:
        return bool(self.protocols) and self.protocols[-1].transport is not None

    async def was_asked(self) -> bool:
        return bool(self.seen)

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    async def ask(self, *parts: bytes) -> bytes:
        """Send bytes on a new connection and return everything until the server closes it."""
        client = await self.connect()
        try:
            await client.send(*parts)
            return await client.rest()
        finally:
            client.writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def response(self) -> bytes:
        """Return one response with its body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return head + await self.reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))

    async def rest(self) -> bytes:
        """Return everything that the server sends until it closes the connection, at the latest when it is idle."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                while chunk := await self.reader.read(65536):
                    received += chunk
        return received

    async def closed_after(self, *parts: bytes, every: float = 0.05, seconds: float = 3.0) -> tuple[float, bytes]:
        """Send these parts slowly; return the seconds until the server closed, and what it sent."""
        started = time.monotonic()

        async def drip() -> None:
            for part in parts:
                await self.send(part)
                await asyncio.sleep(every)

        dripping = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(seconds):
                said = await self.reader.read()
        except ConnectionError:
            said = b""
        finally:
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
        return time.monotonic() - started, said


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    http: Any = gateway.protocol
    config = uvicorn.Config(gateway, http=http, ws="none", log_config=None, log_level="critical")
    config.timeout_keep_alive = LIMITS.idle  # type: ignore[assignment]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gateway.port = listener.getsockname()[1]
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.001)
        yield gateway
        server.should_exit = server.force_exit = True
        await serving


@pytest.fixture
def gateway(shared: Gateway) -> Gateway:
    shared.reset()
    return shared


def problem(answer: bytes) -> dict[str, Any]:
    """Return the problem document from an answer that holds a single response."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"connection: close" in head
    document: dict[str, Any] = msgspec.json.decode(body)
    assert document["status"] == int(head[9:12])
    return document


def shown(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return msgspec.json.decode(body)


class TestHeads:
    @pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nhost: b\r\n"])
    async def test_a_request_has_exactly_one_host(self, gateway: Gateway, hosts: bytes) -> None:
        answer = await gateway.ask(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")

        assert "Host" in problem(answer)["detail"]
        assert not gateway.seen

    @pytest.mark.parametrize("host", [b"a b", b"a/b", b"a,b:x", b"a:b", b"[::1", b"u@a", b"caf\xe9"])
    async def test_a_host_is_a_host(self, gateway: Gateway, host: bytes) -> None:
        assert problem(await gateway.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"))["status"] == 400

    @pytest.mark.parametrize("host", [b"", b"a.example.org", b"a-b_c:8080", b"[::1]:80", b"127.0.0.1"])
    async def test_other_hosts_pass(self, gateway: Gateway, host: bytes) -> None:
        assert shown(await gateway.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"))[1]["host"] == host.decode()

    async def test_an_http_1_0_request_needs_no_host(self, gateway: Gateway) -> None:
        assert shown(await gateway.ask(b"GET / HTTP/1.0\r\n\r\n"))[0] == "/"

    @pytest.mark.parametrize(
        "line", [b"OPTIONS *", b"GET *", b"CONNECT a:80", b"GET ftp://a/b", b"GET a/b", b"GET http://a"]
    )
    async def test_the_target_is_a_path(self, gateway: Gateway, line: bytes) -> None:
        assert problem(await gateway.ask(line + b" HTTP/1.1\r\nHost: x\r\n\r\n"))["status"] == 400
        assert not gateway.seen

    async def test_a_url_is_a_target_too(self, gateway: Gateway) -> None:
        assert shown(await gateway.ask(b"GET HTTP://a/b HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == "/b"

    @pytest.mark.parametrize("size", [HEAD_LIMIT + 1, 100_000, 250_000])
    @pytest.mark.parametrize("part", [b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n", GET + b"X: %b\r\n\r\n"])
    async def test_the_bound_of_a_head_holds_also_for_one_that_arrives_whole(
        self, gateway: Gateway, part: bytes, size: int
    ) -> None:
        assert problem(await gateway.ask(part % (b"a" * size)))["status"] == 431
        assert not gateway.seen

    async def test_many_small_headers_add_up(self, gateway: Gateway) -> None:
        assert problem(await gateway.ask(GET + b"X: y\r\n" * (HEAD_LIMIT // 6) + b"\r\n"))["status"] == 431

    async def test_a_head_within_the_bound_passes(self, gateway: Gateway) -> None:
        answer = await gateway.ask(GET + b"X: " + b"a" * (HEAD_LIMIT - 100) + b"\r\n\r\n")

        assert len(shown(answer)[1]["x"]) == HEAD_LIMIT - 100


class TestTrailers:
    CHUNKED = POST + b"X-Forwarded-For: 192.0.2.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    TRAILERS = b"Authorization: Bearer x\r\nX-Forwarded-For: 192.0.2.9\r\nExpect: 100-continue\r\nHost: y\r\n\r\n"

    @pytest.mark.parametrize("apart", [False, True])
    async def test_they_are_no_headers(self, gateway: Gateway, apart: bool) -> None:
        gateway.reading.clear()
        client = await gateway.connect()
        await client.send(*((self.CHUNKED, self.TRAILERS) if apart else (self.CHUNKED + self.TRAILERS,)))
        gateway.reading.set()

        assert shown(await client.rest()) == [
            "/",
            {"host": "x", "x-forwarded-for": "192.0.2.1", "transfer-encoding": "chunked"},
            1,
        ]

    @pytest.mark.parametrize("endless", [b"X: " + b"a" * 1000, b"X: " + b"a" * 100_000, b"1;" + b"a" * 1000])
    async def test_they_are_bounded_like_a_head(self, gateway: Gateway, endless: bytes) -> None:
        start = self.CHUNKED.removesuffix(b"0\r\n") if endless.startswith(b"1;") else self.CHUNKED
        client = await gateway.connect()

        with contextlib.suppress(ConnectionError):
            await client.send(start, endless, *[b"a" * 16_384] * 40)

        assert problem(await client.rest())["status"] == 400


class TestRefusals:
    async def test_a_client_that_still_sends_gets_the_problem(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(5):
            await client.send(b"nonsense\r\n" * 1000)
            await asyncio.sleep(0.01)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]

        assert problem(await client.rest())["status"] == 400

    async def test_the_application_learns_at_once_that_the_body_won_t_come(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nnonsense\r\n")

        assert problem(await client.rest())["status"] == 400
        assert gateway.ends == ["http.disconnect"]

    async def test_a_response_that_has_begun_is_broken_off(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(POST.replace(b" / ", b" /early ") + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await client.reader.readuntil(b"early")
        await client.send(b"nonsense\r\n")

        assert b"HTTP/1.1" not in await client.rest()

    async def test_a_client_can_t_take_a_refusal_for_the_answer_to_an_earlier_request(self, gateway: Gateway) -> None:
        gateway.released.clear()
        client = await gateway.connect()
        await client.send(GET + b"\r\n" + POST + b"Content-Length: 1000\r\n\r\n")

        assert await client.rest() == b""

    async def test_after_a_response_there_is_no_second_one(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(POST.replace(b" / ", b" /unread ") + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await client.reader.readuntil(b"]")
        await client.send(b"nonsense\r\n")

        assert await client.rest() == b""


class TestSlowClients:
    async def test_a_silent_connection_is_closed(self, gateway: Gateway) -> None:
        client = await gateway.connect()

        seconds, said = await client.closed_after()

        assert (0.2 < seconds < 2.0, said) == (True, b"")

    async def test_a_head_that_drips_is_cut_off(self, gateway: Gateway) -> None:
        client = await gateway.connect()

        seconds, said = await client.closed_after(GET, *[b"X: y\r\n"] * 100)

        assert (0.2 < seconds < 2.0, problem(said)["status"]) == (True, 408)

    async def test_so_is_the_head_of_a_later_request(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(GET + b"\r\n")
        await client.reader.readuntil(b"]")

        seconds, said = await client.closed_after(b"\r\n", GET, *[b"X: y\r\n"] * 100)

        assert (0.2 < seconds < 2.0, problem(said)["status"]) == (True, 408)

    async def test_an_idle_connection_is_closed(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(GET + b"\r\n")
        await client.reader.readuntil(b"]")

        seconds, said = await client.closed_after()

        assert (0.2 < seconds < 2.0, said) == (True, b"")

    @pytest.mark.parametrize("part", [b"a", b""])
    async def test_a_body_that_drips_is_cut_off(self, gateway: Gateway, part: bytes) -> None:
        client = await gateway.connect()

        seconds, said = await client.closed_after(POST + b"Content-Length: 1000\r\n\r\n", *[part] * 100)

        assert (0.1 < seconds < 2.0, problem(said)["status"]) == (True, 408)

    async def test_a_steady_body_is_read_to_its_end(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(POST + b"Content-Length: 3000\r\n\r\n")
        for _ in range(10):
            await client.send(b"a" * 300)
            await asyncio.sleep(0.1)

        assert shown(await client.rest())[2] == 3000

    async def test_a_client_that_the_gateway_makes_wait_is_not_slow(self, gateway: Gateway) -> None:
        gateway.reading.clear()
        client = await gateway.connect()
        await client.send(POST + b"Content-Length: 300000\r\n\r\n" + b"a" * 200_000)
        await asyncio.sleep(3 * LIMITS.window)
        gateway.reading.set()
        await asyncio.sleep(LIMITS.window / 2)
        await client.send(b"a" * 100_000)

        assert shown(await client.rest())[2] == 300_000

    async def test_nor_is_one_whose_last_bytes_made_it_wait(self, gateway: Gateway) -> None:
        gateway.reading.clear()
        client = await gateway.connect()
        await client.send(POST + b"Content-Length: 65600\r\n\r\n" + b"a" * 65_530)
        await asyncio.sleep(LIMITS.window / 4)
        await client.send(b"a" * 20)
        await asyncio.sleep(LIMITS.window)
        gateway.reading.set()
        await client.send(b"a" * 50)

        assert shown(await client.rest())[2] == 65_600

    async def test_nor_is_one_that_asked_whether_to_send(self, gateway: Gateway) -> None:
        gateway.reading.clear()
        client = await gateway.connect()
        await client.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        await asyncio.sleep(3 * LIMITS.window)
        gateway.reading.set()
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")

        assert shown(await client.rest())[2] == 3

    async def test_a_body_that_goes_on_after_the_response_is_cut_off(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        head = POST.replace(b" / ", b" /unread ") + b"Content-Length: 1000000\r\n\r\n"

        seconds, said = await client.closed_after(head, *[b"a" * 1000] * 100)

        assert (0.2 < seconds < 2.0, shown(said)[0]) == (True, "/unread")

    async def test_a_client_that_reads_nothing_is_cut_off_and_costs_little(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")

        async def is_behind() -> bool:
            return bool(gateway.protocols) and gateway.protocols[-1].flow.write_paused

        async def is_cut_off() -> bool:
            return gateway.protocols[-1] not in gateway.protocols[-1].connections

        await eventually(is_behind, seconds=5)
        assert gateway.protocols[-1].transport.get_write_buffer_size() < 1024 * 1024
        await eventually(is_cut_off, seconds=5)
        client.writer.close()

    async def test_a_client_that_reads_slowly_gets_everything(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        left, started = BIG, time.monotonic()
        while left:
            left -= len(await client.reader.readexactly(min(left, 1024 * 1024)))
            await asyncio.sleep(0.05)

        assert b"content-length: %d" % BIG in head
        assert time.monotonic() - started > 2 * LIMITS.idle


class TestPipelines:
    async def test_requests_that_wait_are_answered_in_order(self, gateway: Gateway) -> None:
        answer = await gateway.ask(b"".join(GET.replace(b" / ", b" /%d " % number) + b"\r\n" for number in range(20)))

        assert gateway.seen == [f"/{number}" for number in range(20)]
        assert answer.count(b"HTTP/1.1 200") == 20

    async def test_more_than_may_wait_are_not_taken(self, gateway: Gateway) -> None:
        gateway.released.clear()
        client = await gateway.connect()
        await client.send((GET + b"\r\n") * 3000)
        await asyncio.sleep(0.05)
        gateway.released.set()

        answer = await client.rest()

        assert answer.count(b"HTTP/1.1 200") == len(gateway.seen) == MAX_PIPELINED + 1
        assert answer.count(b"connection: close") == 1

    async def test_what_is_malformed_comes_after_the_answers_before_it(self, gateway: Gateway) -> None:
        gateway.released.clear()
        client = await gateway.connect()
        await client.send(GET + b"\r\n" + GET + b"\r\n" + b"nonsense\r\n\r\n")
        await asyncio.sleep(0.05)
        gateway.released.set()

        answer = await client.rest()

        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200") == 2
        assert client.reader.at_eof()

    async def test_a_request_to_change_the_protocol_ends_the_connection(self, gateway: Gateway) -> None:
        answer = await gateway.ask(GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + GET + b"\r\n")

        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"connection: close" in answer


class TestDraining:
    async def test_a_request_on_a_kept_connection_is_answered_and_ends_it(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await client.send(GET + b"\r\n")
        before = await client.response()

        gateway.protocols[-1].shutdown()
        await client.send(GET + b"\r\n")
        after = await client.rest()

        assert b"connection: close" not in before
        assert shown(after)[0] == "/"
        assert b"connection: close" in after

    async def test_the_first_request_on_a_new_connection_is_answered(self, gateway: Gateway) -> None:
        client = await gateway.connect()
        await eventually(gateway.is_connected)
        gateway.protocols[-1].shutdown()
        await client.send(GET)
        await asyncio.sleep(LIMITS.linger * 1.5)
        await client.send(b"\r\n")

        answer = await client.rest()

        assert shown(answer)[0] == "/"
        assert b"connection: close" in answer

    async def test_a_request_in_progress_ends_its_connection(self, gateway: Gateway) -> None:
        gateway.released.clear()
        client = await gateway.connect()
        await client.send(GET + b"\r\n")
        await eventually(gateway.was_asked)

        gateway.protocols[-1].shutdown()
        gateway.released.set()

        assert b"connection: close" in await client.rest()

    async def test_a_response_that_had_begun_is_followed_by_the_next_request(self, gateway: Gateway) -> None:
        gateway.reading.clear()
        client = await gateway.connect()
        await client.send(GET.replace(b" / ", b" /parts ") + b"\r\n")
        await client.reader.readuntil(b"early")

        gateway.protocols[-1].shutdown()
        gateway.reading.set()
        await client.reader.readuntil(b"late\r\n0\r\n\r\n")
        await client.send(GET + b"\r\n")
        answer = await client.rest()

        assert shown(answer)[0] == "/"
        assert b"connection: close" in answer

    async def test_a_request_that_is_unread_when_the_connection_should_close_is_answered(
        self, gateway: Gateway
    ) -> None:
        client = await gateway.connect()
        await client.send(GET + b"\r\n")
        await client.response()
        gateway.protocols[-1].shutdown()

        client.writer.write(GET + b"\r\n")
        gateway.protocols[-1]._close_if_quiet()

        assert shown(await client.rest())[0] == "/"

    async def test_a_quiet_connection_is_closed_before_its_idle_time_ends(self, gateway: Gateway) -> None:
        other = await gateway.connect()
        await other.send(GET + b"\r\n")
        await other.response()
        client = await gateway.connect()
        await client.send(GET + b"\r\n")
        await client.response()

        gateway.protocols[-1].shutdown()

        assert await first_closed(client, other) is client

    async def test_so_is_one_whose_response_had_begun(self, gateway: Gateway) -> None:
        gateway.reading.clear()
        client = await gateway.connect()
        await client.send(GET.replace(b" / ", b" /parts ") + b"\r\n")
        await client.reader.readuntil(b"early")
        gateway.protocols[-1].shutdown()
        other = await gateway.connect()
        gateway.reading.set()
        await other.send(GET + b"\r\n")
        await other.response()

        assert await first_closed(client, other) is client


async def first_closed(*clients: Client) -> Client:
    """Return the client whose connection the server closes first."""
    closes = {asyncio.create_task(client.rest()): client for client in clients}
    closed, _ = await asyncio.wait(closes, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*closes)
    return closes[closed.pop()]
