"""Stand-ins for the sockets of a process: what it writes is answered at once, within the process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from aidevos.durable.client.connection import Connection

_match_request = re.compile(rb"HPUB ([^ ]+) ([^ ]+) (\d+) (\d+)\r\n").match
_match_answer = re.compile(rb"PUB ([^ ]+) (\d+)\r\n").match


class Wire:
    """The transport of nats-py's client, its writer and the writer's transport in one.

    `on_write` gets what the client sends.
    """

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        self._on_write = on_write
        self._io_reader = asyncio.StreamReader()
        self._io_writer = self.transport = self

    def receive(self, data: bytes) -> None:
        """Let the client read this, as if it came from the server."""
        self._io_reader.feed_data(data)

    def write(self, data: bytes) -> None:
        self._on_write(data)

    def writelines(self, commands: Iterable[bytes]) -> None:
        self._on_write(b"".join(commands))

    async def read(self, size: int) -> bytes:
        return await self._io_reader.read(size)

    async def drain(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def at_eof(self) -> bool:
        return False


def connect(on_write: Callable[[bytes], None]) -> tuple[Connection, Wire]:
    """Return a connection that is up, and its transport."""
    connection: Any = Connection()
    wire = connection._transport = Wire(on_write)
    connection._status = Client.CONNECTED
    connection._max_payload = connection._max_pending_size = 8 * 1024 * 1024
    connection._flush_queue = asyncio.Queue(1024)
    connection._inbox_prefix = bytearray(b"_INBOX_gateway")
    loop = asyncio.get_running_loop()
    connection._guarded = [loop.create_task(connection._read_loop()), loop.create_task(connection._flusher())]
    return connection, wire


def hand_over(connection: Any, number: int, subject: str, take: Any) -> None:
    """Subscribe without a server."""
    connection._subs[number] = Subscription(connection, number, subject)
    connection._takers[number] = take


def replies_in(data: bytes) -> list[bytes]:
    """Return the reply subjects of the requests in what a client has sent."""
    found, at = [], 0
    while at < len(data):
        request = _match_request(data, at)
        if request is None:
            raise ValueError(data[at : at + 100])
        found.append(request[2])
        at = request.end() + int(request[4]) + 2
    return found


def count_answers(data: bytes) -> int:
    """Return the number of answers without headers in what a host has sent."""
    count, at = 0, 0
    while at < len(data):
        answer = _match_answer(data, at)
        if answer is None:
            raise ValueError(data[at : at + 100])
        count, at = count + 1, answer.end() + int(answer[2]) + 2
    return count


class HttpTransport:
    """The transport of an HTTP connection; `on_response` is called when a response is written."""

    def __init__(self, on_response: Callable[[], None]) -> None:
        self._on_response = on_response

    def write(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 200"):
            self._on_response()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 5000), "sockname": ("127.0.0.1", 8080)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0
