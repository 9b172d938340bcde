"""A connection to the simulated NATS server.

It is the framework's own `Connection`, and so nats-py's client, except for the socket and the parser beneath it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from aidevos.durable.client.connection import RECONNECT_WAIT, Connection
from aidevos.testing.simulation.loop import Process
from aidevos.testing.simulation.nats_server import Link, Message, NatsServer

VERSION = "2.15.1"
MAX_PAYLOAD = 1024 * 1024


class SimulatedConnection(Connection):
    """A connection of one process. Call `open` in that process."""

    def __init__(
        self,
        server: NatsServer,
        process: Process,
        *,
        inbox: str,
        reachable: Callable[[], bool],
        on_disconnect: Callable[[], None] = lambda: None,
        on_reconnect: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._server = server
        self._process = process
        self._reachable = reachable
        self._on_disconnect = on_disconnect
        self._on_reconnect = on_reconnect
        self._inbox_prefix = bytearray(inbox.encode())
        self._skip_subject_validation = True
        self._server_info = {"version": VERSION, "headers": True, "max_payload": MAX_PAYLOAD}
        self._max_payload = MAX_PAYLOAD
        self._max_pending_size = 2 * MAX_PAYLOAD
        self._link: Link | None = None
        self._arrived: deque[tuple[Any, ...]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._unsent: list[tuple[object, ...]] = []

    async def open(self) -> None:
        """Connect. nats-py's own tasks for the socket are replaced by futures that never end."""
        loop = asyncio.get_running_loop()
        self.options = {"allow_reconnect": True, "drain_timeout": 30, "reconnect_time_wait": RECONNECT_WAIT}
        self._flush_queue = asyncio.Queue()
        self._flusher_task = loop.create_future()  # type: ignore[assignment]
        self._reading_task = loop.create_task(self._read())
        await self._connect()
        self._status = Client.CONNECTED

    async def _connect(self) -> None:
        while True:
            await asyncio.sleep(self._server.latency.draw() + self._server.latency.draw())
            if self._reachable() and not self._server.down:
                break
            await asyncio.sleep(RECONNECT_WAIT)
        self._link = self._server.open_link(self._process, self._arrive, self._on_reset)
        self._pongs = []

    def cut(self) -> None:
        """Let nothing through until `restore`, or until the connection is given up."""
        if self._link is not None:
            self._link.cut()

    def restore(self) -> None:
        if self._link is not None:
            self._link.restore()

    def reset(self, *, server_notices_after: float = 0.0) -> None:
        if self._link is not None:
            self._link.reset(server_notices_after=server_notices_after)

    def _on_reset(self) -> None:
        if self.is_connected:
            self._status = Client.RECONNECTING
            self._reconnection_task = asyncio.get_running_loop().create_task(self._attempt_reconnect())

    async def _attempt_reconnect(self) -> None:
        self._arrived.clear()
        self._on_disconnect()
        while not self.is_closed:
            try:
                await self._resume()
                self._on_reconnect()
                return
            except NatsError:
                self._status = Client.RECONNECTING

    async def _resume(self) -> None:
        """Connect again, and repeat the subscriptions. Raises an error of nats-py if the server doesn't answer then."""
        await self._connect()
        if self.is_closed:
            return
        self.stats["reconnects"] += 1
        for number, subscription in self._subs.items():
            self._link_send("sub", number, subscription._subject, subscription._queue)
        unsent, self._unsent = self._unsent, []
        for command in unsent:
            self._link_send(*command)
        self._status = Client.CONNECTED
        await self.flush()

    def _link_send(self, *command: object) -> None:
        if self._link is not None:
            self._link.send(*command)

    def _send(self, *command: object) -> None:
        if self.is_connected:
            self._link_send(*command)
        else:
            self._unsent.append(command)

    # nats-py's own ends in `_send_publish`.
    publish = Client.publish

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        self._send("pub", subject, reply, bytes(payload), encode_headers(headers) if headers else b"")

    async def _send_subscribe(self, sub: Subscription) -> None:
        self._send("sub", sub._id, sub._subject, sub._queue)

    async def _send_unsubscribe(self, sid: int, limit: int = 0) -> None:
        self._send("unsub", sid)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        self._send("ping")

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        """Take the only command that the framework itself writes: the end of a subscription."""
        verb, number, *_ = cmd.split()
        assert verb == b"UNSUB"  # noqa: S101
        self._send("unsub", int(number))

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """Do nothing, because nothing is buffered."""

    def post(self, subject: bytes, message: bytes) -> None:
        sizes, _, body = message.partition(b"\r\n")
        head = int(sizes.split()[0])
        self._send("pub", subject.decode(), "", body[head:-2], body[:head])

    def post_payload(self, subject: bytes, payload: bytes) -> None:
        self._send("pub", subject.decode(), "", bytes(payload), b"")

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        link, self._link = self._link, None
        await super()._close(status, do_cbs)
        if link is not None:
            link.send("close")
            link.down.close()

    def _arrive(self, *item: Any) -> None:
        """Take what has arrived, at once if nothing waits before it and it is handed over as it is read."""
        if item[0] == "msg" and not self._arrived and (take := self._takers.get(item[1])) is not None:
            if item[1] in self._subs:
                message: Message = item[2]
                take(message.subject.encode(), message.reply.encode(), message.data, message.headers)
            return
        self._arrived.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._arrived:
                kind, *details = self._arrived.popleft()
                if kind == "pong":
                    await self._process_pong()
                else:
                    number, message = details
                    await self._process_msg(
                        number, message.subject.encode(), message.reply.encode(), message.data, message.headers
                    )
            self._reader = loop.create_future()
            await self._reader


def encode_headers(headers: dict[str, Any]) -> bytes:
    """Return headers as they are sent."""
    lines = "".join([f"{name.strip()}: {value.strip()}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n".encode()
