"""Tells that the server sent on a lost connection arrive again on the next one."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import nats

from aidevos.contracts import subjects
from aidevos.durable.base.clock import SystemClock
from aidevos.durable.base.partitions import Partitions
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.client.connection import connect
from aidevos.durable.delivery.tells import Tells
from aidevos.durable.turns.environment import Limits
from aidevos.durable.turns.headers import Reply
from tests.support.servers import Servers


class Proxy:
    """Forwards bytes; while it is `mute`, it drops the server's."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: list[asyncio.StreamWriter] = []
        self._passing: list[asyncio.Task[None]] = []
        self.mute = False
        self.lost = asyncio.Event()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(self._target._replace(netloc=f"{self._target.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, to_server]
        both = [self._pass(reader, to_server, False), self._pass(from_server, writer, True)]
        self._passing += [asyncio.create_task(each) for each in both]

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, answers: bool) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if answers and self.mute:
                    if b"tellp." in data:
                        self.lost.set()
                else:
                    to.write(data)
        to.close()

    def cut(self) -> None:
        """End all connections, and stop dropping bytes."""
        self.mute = False
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._passing)


class FakeSurroundings:
    """A fake router that applies every tell at once, and rate limits that admit every caller."""

    def __init__(self, type: str) -> None:
        self.registry = SimpleNamespace(types=[type])
        self.partitions = Partitions(subjects.PARTITIONS, lambda: True)
        self.limits = Limits()
        self.clock = SystemClock()
        self.applied: asyncio.Queue[str] = asyncio.Queue()

    def is_open(self, subject: str) -> bool:
        return True

    def spend(self, *about: Any) -> None:
        pass

    def dispatch(self, subject: str, payload: bytes, *others: Any, **options: Any) -> None:
        respond = others[2]
        self.applied.put_nowait(payload.decode())
        respond(Reply(b"null"))


async def test_a_tell_that_was_given_to_a_lost_connection_comes_again(servers: Servers) -> None:
    type, proxy = f"t{secrets.token_hex(6)}", Proxy(servers.nats_url("fleet"))
    router = FakeSurroundings(type)
    subject = subjects.tell(type, "a", "write")
    teller = await nats.connect(servers.nats_url("fleet"))
    connection = await connect(await proxy.start(), "host")
    anything: Any = router
    tells = Tells(connection, "host.1", anything, anything, anything, anything)
    tells.take(type, dict.fromkeys(range(subjects.PARTITIONS), ""))
    following = asyncio.create_task(tells.follow(type))
    try:
        await teller.jetstream().publish(subject, b"first")
        assert await asyncio.wait_for(router.applied.get(), 20) == "first"
        proxy.mute = True
        await teller.jetstream().publish(subject, b"second")
        await asyncio.wait_for(proxy.lost.wait(), 20)
        proxy.cut()

        async with asyncio.timeout(30):
            # The first tell's acknowledgement may have been lost too.
            while await router.applied.get() != "second":
                pass
    finally:
        await cancel_and_wait([following])
        await tells.close()
        await connection.close()
        await teller.close()
        await proxy.close()
