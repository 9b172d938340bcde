"""A connection to the simulated NATS server.

It is the framework's own `Connection`, and so nats-py's client, except for the socket and the parser beneath it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from aidevos.durable.client.connection import RECONNECT_WAIT, Connection
from aidevos.testing.simulation.loop import Process
from aidevos.testing.simulation.nats_server import NO_RESPONDERS, Link, Message, NatsServer

VERSION = "2.15.1"
MAX_PAYLOAD = 1024 * 1024
NOTHING = Message("", "", b"", b"")


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
        # What has arrived and nats-py is taking, if that may have to wait.
        self._arrived: deque[tuple[str, int, Message]] = deque()
        self._reader: asyncio.Future[None] | None = None
        # The callbacks of inboxes, which never wait.
        self._answers: dict[int, Callable[[Msg], Coroutine[Any, Any, None]]] = {}
        self._requests = 0
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
        if self._process.trap is not None and command[0] == "pub":
            # Keys are deleted by empty messages.
            self._process.reach(str(command[1]) if command[3] else f"empty.{command[1]}")
        if self._status == Client.CONNECTED and self._link is not None:
            self._link.up.send(*command)
        else:
            self._unsent.append(command)

    # nats-py's own ends in `_send_publish`.
    publish = Client.publish

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        self._send("pub", subject, reply, bytes(payload), encode_headers(headers) if headers else b"")

    async def subscribe(self, subject: str, *args: Any, **options: Any) -> Subscription:
        """Subscribe as nats-py does. The answers that come to an inbox of many requests wait in no queue."""
        callback = options.get("cb")
        if callback is not None and subject.endswith(".*") and subject.startswith(self._inbox_prefix.decode()):
            self._answers[self._sid + 1] = callback
        return await super().subscribe(subject, *args, **options)

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,  # noqa: ASYNC109
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """Send a request as nats-py does, but faster."""
        if not self._resp_sub_prefix:
            await self._init_request_sub()
        loop = asyncio.get_running_loop()
        self._requests += 1
        # The callback of nats-py finds the request by the last 28 characters of its inbox.
        token = f"{self._requests:028x}"
        answered = self._resp_map[token] = loop.create_future()
        timer = loop.call_later(timeout, _give_up, answered)
        try:
            inbox = self._resp_sub_prefix.decode() + token  # type: ignore[union-attr]
            await self.publish(subject, payload, reply=inbox, headers=headers)
            message: Msg = await answered
        finally:
            timer.cancel()
            del self._resp_map[token]
        if message.headers and message.headers.get("Status") == "503":
            raise NoRespondersError
        return message

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

    def _arrive(self, kind: str, number: int = 0, message: Message = NOTHING) -> None:
        """Take what has arrived, at once unless nats-py may have to wait for something."""
        subscription = self._subs.get(number)
        if kind == "msg" and subscription is None:
            return
        if self._arrived or (subscription is not None and subscription._jsi is not None):
            self._arrived.append((kind, number, message))
            if self._reader is not None and not self._reader.done():
                self._reader.set_result(None)
        elif (take := self._takers.get(number)) is not None:
            take(message.subject.encode(), message.reply.encode(), message.data, message.headers)
        elif (answer := self._answers.get(number)) is not None:
            _run_at_once(answer(self._open_reply(number, message)))
        else:
            _run_at_once(self._handle(kind, number, message))

    def _open_reply(self, number: int, message: Message) -> Msg:
        headers = None
        if message.headers:
            headers = self._parse_header_lines(message.headers.partition(b"\r\n")[2])
            if message.headers is NO_RESPONDERS:
                headers["Status"] = "503"
        return Msg(self, message.subject, message.reply, message.data, headers, _sid=number)

    async def _handle(self, kind: str, number: int, message: Message) -> None:
        if kind == "pong":
            await self._process_pong()
        else:
            subject, reply, data, headers = message
            await self._process_msg(number, subject.encode(), reply.encode(), data, headers)

    async def _read(self) -> None:
        loop, arrived = asyncio.get_running_loop(), self._arrived
        while True:
            while arrived:
                first = arrived[0]
                await self._handle(*first)
                if arrived and arrived[0] is first:
                    arrived.popleft()
            self._reader = loop.create_future()
            await self._reader


def _give_up(answered: asyncio.Future[Msg]) -> None:
    if not answered.done():
        answered.set_exception(NatsTimeout())


def _run_at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that doesn't wait."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("nats-py waits while it takes a message")


def encode_headers(headers: dict[str, Any]) -> bytes:
    """Return headers as they are sent."""
    lines = "".join([f"{name.strip()}: {value.strip()}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n".encode()
