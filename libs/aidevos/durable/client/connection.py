"""Connections to NATS, as opened by every process of the product.

They read and write message headers in bulk. nats-py handles headers character by character. For the four headers of a
call, that would cost a gateway and a host a tenth of their time.

Promise: no published message stops this process from reading other messages or reaches a wrong subscription. The server
accepts any bytes except blanks in a subject. nats-py would stop reading after one that isn't UTF-8, and would end a
subject at a vertical tab or a form feed.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from nats.aio.client import PING_PROTO, Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import AuthorizationError, ConnectionClosedError, OutboundBufferLimitError, SecureConnWantedError
from nats.errors import Error as NatsError
from nats.protocol import parser
from nats.protocol.command import hpub_cmd, pub_cmd, unsub_cmd

from aidevos.contracts import envelope
from aidevos.durable.client.wire import Take, WireParser
from aidevos.settings import SettingsError, split_urls

log = logging.getLogger(__name__)
START_WITHIN = 30.0
RECONNECT_WAIT = 0.1
# Seconds between two pings. A server that misses two in a row is given up.
PING_INTERVAL = 10
CLUSTER_PING_INTERVAL = 1
# Errors that another attempt can't resolve while a process starts.
FATAL = (AuthorizationError, SecureConnWantedError, ssl.SSLCertVerificationError)
PENDING_BYTES = 64 * 1024 * 1024
# Posted messages that are sent together. More would share the cost of sending, but all would wait for the last, and so
# would the core on which they are read.
AT_ONCE = 16
# Inboxes, and the subjects that the server substitutes for them between accounts.
REPLY_PREFIXES = (b"_INBOX", b"_R_.")
# Subjects that can be written as they are.
_is_plain = re.compile(r"[!-~]+").fullmatch
# The names of headers that are encoded in bulk: those of calls, and those of messages for a stream.
PLAIN = envelope.HEADERS | {
    "Aidevos-Number",
    "Nats-Batch-Commit",
    "Nats-Batch-Id",
    "Nats-Batch-Sequence",
    "Nats-Expected-Last-Subject-Sequence",
    "Nats-Expected-Last-Subject-Sequence-Subject",
    "Nats-Msg-Id",
}
SPACE = " \t\n\r\v\f"
parser.MSG_RE = re.compile(rb"\AMSG ([^ \t\r\n]+) (\d+) (([^ \t\r\n]+) )?(\d+)\r\n")
parser.HMSG_RE = re.compile(rb"\AHMSG ([^ \t\r\n]+) (\d+) (([^ \t\r\n]+) )?(\d+) (\d+)\r\n")


def is_inbox(reply: bytes) -> bool:
    """Return True if a process may answer to this subject.

    The server lets a host reply to any subject. Only inboxes are safe: others could be events or KV keys.
    """
    return reply.startswith(REPLY_PREFIXES)


class Connection(Client):
    """nats-py's client with faster headers. The bytes on the wire are the same; unusual headers use nats-py's code."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Take] = {}
        self._ps: WireParser = WireParser(self, self._takers)
        self._is_posting = False

    async def close(self) -> None:
        """Close the connection. If it is down, drop what waits to be sent, which nats-py would try to send."""
        if not self.is_connected:
            self._pending, self._pending_data_size = [], 0
        with suppress(OSError):
            await super().close()

    async def hand_over(self, subject: str, queue: str, take: Take) -> Subscription:
        """Subscribe, and pass the messages to `take` as they are read.

        They wait in no queue of nats-py, their headers are not parsed, and reading one costs a quarter.
        """
        # Messages may arrive before `subscribe` returns. It gives the subscription the next number at once.
        self._takers[self._sid + 1] = take
        subscription = await self.subscribe(subject, queue=queue)
        # A host has hundreds of them, and a queue takes 2 KB.
        subscription._pending_queue = None  # type: ignore[assignment]
        return subscription

    async def end(self, subscription: Subscription, within: float) -> None:
        """End a subscription after the messages that have arrived. After `within` seconds, end it all the same.

        nats-py would subscribe again after a reconnect if the orderly end fails.
        """
        try:
            await asyncio.wait_for(subscription.drain(), within)  # type: ignore[no-untyped-call]
        except (NatsError, TimeoutError) as error:
            log.warning("draining a subscription failed: %r", error)
            if subscription._id in self._subs:
                self._remove_sub(subscription._id)
                await self._send_command(unsub_cmd(subscription._id, 0))

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        if sid not in self._subs:
            self._takers.pop(sid, None)

    def open_message(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> Msg:
        """Return a message that was handed over."""
        parsed = self._parse_header_lines(headers.partition(b"\r\n")[2]) if headers else None
        return self._build_message(0, subject, reply, data, parsed)

    async def _read_loop(self) -> None:
        self._ps.read_from(getattr(self._transport, "_io_reader", None))
        await super()._read_loop()

    def post(self, subject: bytes, message: bytes) -> None:
        """Publish a message that `encode_message` has returned, without waiting. Raises an error of nats-py."""
        self._post(b"HPUB %s %s" % (subject, message))

    def post_payload(self, subject: bytes, payload: bytes) -> None:
        """Publish a message without headers, and without waiting. Raises an error of nats-py."""
        self._post(b"PUB %s %d\r\n%s\r\n" % (subject, len(payload), payload))

    def _post(self, command: bytes) -> None:
        """Send a command with some that follow in this turn of the loop, or after the next reconnect."""
        if self._status != Client.CONNECTED:
            if self.is_closed:
                raise ConnectionClosedError
            if self._pending_data_size + len(command) > self._max_pending_size:
                raise OutboundBufferLimitError
        self._pending.append(command)
        self._pending_data_size += len(command)
        if len(self._pending) % AT_ONCE == 0:
            self.send_posted()
        elif not self._is_posting:
            self._is_posting = True
            asyncio.get_running_loop().call_soon(self.send_posted)

    def send_posted(self) -> None:
        """Send what was posted. Only if the socket is full does nats-py's own task do so, which takes longer.

        What is posted to a connection that was just lost waits for the next one. uvloop refuses to write to it, before
        nats-py knows of the loss.
        """
        self._is_posting = False
        writer = getattr(self._transport, "_io_writer", None)
        if not self._pending or (writer is not None and writer.transport.is_closing()):
            return
        if self._status == Client.CONNECTED and writer is not None and not writer.transport.get_write_buffer_size():
            commands, self._pending, self._pending_data_size = self._pending, [], 0
            writer.write(b"".join(commands))
        elif self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        take = self._takers.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers or b"")
        elif sid in self._subs:
            take(subject, reply, data, headers or b"")

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, Any] | None = None
    ) -> None:
        """Publish a message like nats-py, with less work for a plain one on a connection that is up."""
        block = _plain_block(headers) if headers else b""
        size = len(payload)
        if (
            block is None
            or self._status != Client.CONNECTED
            or size > self._max_payload
            or size > self._max_pending_size - self._pending_data_size
            or not (_is_plain(subject) and _is_plain(reply or "-"))
        ):
            await super().publish(subject, payload, reply, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += size
        self._post(hpub_cmd(subject, reply, block, payload) if block else pub_cmd(subject, reply, payload))

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        block = _plain_block(headers) if headers and subject else None
        if block is None:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        await self._send_command(hpub_cmd(subject, reply, block, payload))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Send a ping after everything else. With nats-py, it could overtake the end of a subscription."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Note a pong. With nats-py, one that nobody waits for any more would end the connection."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Insist on TLS where the URL asks for it; nats-py does only what the server's first line asks for."""
        if initial_connection and self._current_server is not None and self._current_server.uri.scheme == "tls":
            if not (info.get("tls_required") or info.get("tls_available")):
                raise SecureConnWantedError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError):
            return None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return Msg(
            _client=self,
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _sid=sid,
        )

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip(SPACE)] = value.strip(SPACE)
        return headers


def encode_message(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """Return all of a message but its subject, for `Connection.post`."""
    block = _plain_block(headers)
    if block is None:
        raise ValueError("only the product's own headers can be posted")
    return b"%d %d\r\n%s%s\r\n" % (len(block), len(block) + len(payload), block, payload)


def _plain_block(headers: Mapping[str, str]) -> bytes | None:
    """Return the encoded headers, or None if a name isn't one of the product's or a value contains a line break."""
    values = "".join(headers.values())
    if "\n" in values or "\r" in values or not PLAIN.issuperset(headers):
        return None
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n".encode()


async def connect(
    url: str,
    name: str,
    *,
    tls: ssl.SSLContext | None = None,
    within: float = START_WITHIN,
    on_disconnect: Callable[[], None] = lambda: None,
    on_reconnect: Callable[[], None] = lambda: None,
) -> Connection:
    """Connect as the user in the URL, with that user's private inbox prefix, and reconnect forever.

    `url` may be those of several servers of a cluster, separated by commas, with the same user.
    `tls` is the context for a URL or a server that asks for TLS, by default one with the system's authorities. Raises
    `SettingsError` if the server refuses the user, proves nothing or doesn't answer `within` this many seconds.
    """
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def disconnected() -> None:
        if not connection.is_closed:
            log.warning("disconnected from NATS")
        on_disconnect()

    async def reconnected() -> None:
        log.info("reconnected to NATS")
        on_reconnect()

    async def failed(error: Exception) -> None:
        log.warning("NATS: %s", error or type(error).__name__)
        if isinstance(error, FATAL) and not refused.done():
            refused.set_result(error)

    connection = Connection()
    connecting: asyncio.Future[Any] = asyncio.ensure_future(
        connection.connect(
            name=name,
            tls=tls,
            **_servers(url),
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]
            connect_timeout=2,
            max_outstanding_pings=2,
            pending_size=PENDING_BYTES,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            error_cb=failed,
        )
    )
    await asyncio.wait({connecting, refused}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    if connecting.done() and connecting.exception() is None:
        refused.cancel()
        return connection
    reason = connecting.exception() if connecting.done() else refused.result() if refused.done() else "no answer"
    connecting.cancel()
    places = ", ".join(f"{place.hostname}:{place.port}" for place in map(urlsplit, split_urls(url)))
    raise SettingsError(f"AIDEVOS_NATS_URL: can't connect to NATS at {places}: {reason}")


def _servers(url: str) -> dict[str, Any]:
    """Return the options for the servers at these URLs, and for their user.

    The credentials are options of their own, because nats-py has none for the servers of the cluster that it hears of
    later. Another server is used within three seconds if one stops answering.
    """
    servers = [urlsplit(server) for server in split_urls(url)]
    user, password = servers[0].username, servers[0].password
    options: dict[str, Any] = {
        "servers": [server._replace(netloc=server.netloc.rpartition("@")[2]).geturl() for server in servers],
        "inbox_prefix": f"_INBOX_{user}" if user else "_INBOX",
        "ping_interval": PING_INTERVAL if len(servers) == 1 else CLUSTER_PING_INTERVAL,
    }
    if user and password is not None:
        options |= {"user": unquote(user), "password": unquote(password)}
    elif user:
        options |= {"token": unquote(user)}
    return options


async def connect_once(url: str, tls: ssl.SSLContext | None) -> Connection:
    """Connect for one step of a command, without a second attempt; raises the library's errors and `OSError`."""
    connection = Connection()
    await connection.connect(
        **_servers(url),
        tls=tls,
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.1,  # type: ignore[arg-type]
        error_cb=_ignore,
    )
    return connection


async def _ignore(error: Exception) -> None:
    """Ignore an error, because the call that it belongs to fails by itself."""
