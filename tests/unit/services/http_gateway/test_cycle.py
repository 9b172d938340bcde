"""How responses are written to a connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from services.http_gateway.http.cycle import Cycle

LENGTH = (b"content-length", b"2")


class Transport:
    """A transport that records what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def cycle_of(transport: Any, method: str = "GET", *, keep_alive: bool = True) -> Cycle:
    scope: Any = {"method": method}
    log, event, ended = logging.getLogger(), asyncio.Event(), lambda: None
    date = [(b"date", b"now")]
    return Cycle(scope, transport, FlowControl(transport), log, log, False, date, event, False, keep_alive, ended)


async def respond(cycle: Cycle, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await cycle.send({"type": "http.response.start", "status": 200, "headers": [*headers]})
    await cycle.send({"type": "http.response.body", "body": body})


async def test_a_response_of_known_length_leaves_in_one_piece() -> None:
    transport = Transport()
    cycle = cycle_of(transport)

    await respond(cycle, b"hi", (b"x-own", b"1"), LENGTH)

    assert transport.written == [b"HTTP/1.1 200 OK\r\ndate: now\r\nx-own: 1\r\ncontent-length: 2\r\n\r\nhi"]
    assert cycle.response_complete
    assert not transport.closed


async def test_a_connection_that_is_not_kept_says_so_and_closes() -> None:
    transport = Transport()

    await respond(cycle_of(transport, keep_alive=False), b"hi", LENGTH)

    assert b"\r\nconnection: close\r\n\r\nhi" in transport.written[0]
    assert transport.closed


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nset-cookie: b"), (b"x\r\n", b"a"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x", b"a\0")]
)
async def test_no_header_can_break_a_response(header: tuple[bytes, bytes]) -> None:
    transport = Transport()

    for _ in range(2):
        with pytest.raises(RuntimeError):
            await respond(cycle_of(transport), b"hi", header, LENGTH)

    assert transport.written == []


@pytest.mark.parametrize("body", [b"h", b"hi!"])
async def test_a_body_of_another_length_is_an_error(body: bytes) -> None:
    with pytest.raises(RuntimeError):
        await respond(cycle_of(Transport()), body, LENGTH)


async def test_a_response_to_head_has_no_body() -> None:
    transport = Transport()

    await respond(cycle_of(transport, "HEAD"), b"hi", LENGTH)

    assert b"".join(transport.written).endswith(b"content-length: 2\r\n\r\n")


async def test_a_body_in_parts_follows_its_head() -> None:
    transport = Transport()
    cycle = cycle_of(transport)
    await cycle.send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
    await cycle.send({"type": "http.response.body", "body": b"h", "more_body": True})
    await cycle.send({"type": "http.response.body", "body": b"i"})

    assert b"".join(transport.written).endswith(b"content-length: 2\r\n\r\nhi")
    assert cycle.response_complete
