"""A receiver of webhooks: a real HTTP server on loopback that keeps the requests it gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple, Self

import msgspec
from standardwebhooks import Webhook

from tests.support.servers import free_port

# On loopback, but not at the address that everything else uses.
ADDRESS = "127.0.0.77"


class Received(NamedTuple):
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return msgspec.json.decode(self.body)

    def verified(self, secret: str) -> Any:
        """Verify the signature with the standard's own library, and return the event; raise if it is wrong."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Answers each path with its status in `answers`, else 204, once its gate in `gates` is open."""

    def __init__(self) -> None:
        self.port = free_port()
        self.received: list[tuple[str, Received]] = []
        self.answers: dict[str, int] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.waiting: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for gate in self.gates.values():
            gate.set()
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, ADDRESS, self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def url(self, path: str = "") -> str:
        return f"http://{ADDRESS}:{self.port}/{path}"

    def at(self, path: str = "") -> list[Received]:
        return [each for to, each in self.received if to == f"/{path}"]

    async def until(self, count: int, path: str = "", within: float = 30.0) -> list[Received]:
        """Return what this path has received, once there are `count` different messages."""
        async with self._changed, asyncio.timeout(within):
            await self._changed.wait_for(lambda: len({each.id for each in self.at(path)}) >= count)
        return self.at(path)

    async def until_asked(self, path: str, within: float = 30.0) -> None:
        """Return once a request waits for this path's gate."""
        async with self._changed, asyncio.timeout(within):
            await self._changed.wait_for(lambda: self.waiting[f"/{path}"] > 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        path = head[0].split(" ")[1]
        await self._note(path, 1)
        if path in self.gates:
            await self.gates[path].wait()
        self.received.append((path, Received(headers, body)))
        await self._note(path, -1)
        writer.write(b"HTTP/1.1 %d Said\r\ncontent-length: 0\r\n\r\n" % self.answers.get(path, 204))
        await writer.drain()
        writer.close()

    async def _note(self, path: str, change: int) -> None:
        self.waiting[path] += change
        async with self._changed:
            self._changed.notify_all()
