"""Commands to MongoDB without a thread.

Motor hands each command to a thread. To change threads twice, and to wait for the interpreter in between, costs more
than most commands. Here, a thread only opens connections. The event loop sends commands over them, and reads the
replies.

Promise: a command is sent once, to the primary. A connection goes on only after the reply to its command. Otherwise,
for example if nobody waits for the reply any more, it is closed. The driver opens, authenticates and counts all
connections, and learns of each failure as of one of its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from struct import Struct
from typing import Any

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from motor.frameworks.asyncio import run_on_executor
from pymongo.compression_support import decompress
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, ProtocolError, PyMongoError
from pymongo.helpers_shared import _check_command_response
from pymongo.message import _op_msg, _OpMsg
from pymongo.monitoring import ConnectionClosedReason

# Bytes of one read, and the most reads in a row.
READ, READS = 256 * 1024, 8
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# A message's length and number, that of its command, and its kind. A compressed one's own kind, length and compressor.
HEADER, INNER_HEADER = Struct("<iiii"), Struct("<iiB")
COMPRESSED = 2012


class Channels:
    """The connections of the driver's `client` to the primary, for commands on one database.

    A reply is waited for `timeout` seconds.
    """

    def __init__(self, client: Any, database: str, timeout: float) -> None:
        self._client = client
        self._database = database
        self._timeout = timeout
        self._free: list[Channel] = []

    async def command(self, command: dict[str, Any], decode: Callable[[bytes], Any] = bson.decode) -> Any:
        """Send a command, and return its reply as `decode` returns it. Raises `PyMongoError`."""
        channel = await self._take()
        try:
            reply = await channel.ask(self._database, command, self._timeout)
            found = decode(bytes(reply.payload_document))
            _check_command_response(found, None)
        except BaseException as error:
            channel.give_back(error)
            raise
        self._free.append(channel)
        return found

    def close(self) -> None:
        """Give the free connections back to the driver."""
        while self._free:
            self._free.pop().give_back()

    async def _take(self) -> Channel:
        while True:
            while self._free:
                channel = self._free.pop()
                if channel.is_usable:
                    return channel
                channel.give_back()
            opening = asyncio.ensure_future(self._open())
            # A connection that nobody waits for any more is there for the next command.
            opening.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(opening)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        checkout, connection = await run_on_executor(loop, self._check_out)  # type: ignore[no-untyped-call]
        self._free.append(Channel(checkout, connection, loop))

    def _check_out(self) -> tuple[Any, Any]:
        checkout = self._client._conn_for_writes(None, "command")
        return checkout, checkout.__enter__()


class Channel:
    """A connection that the driver has lent to the event loop. It carries one command at a time."""

    def __init__(self, checkout: Any, connection: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._checkout = checkout
        self._connection = connection
        self._socket = connection.conn.get_conn
        self._socket.settimeout(0)
        self._loop = loop
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._writing = False
        self._waiter: asyncio.Future[bytes] | None = None
        self._broken = False
        loop.add_reader(self._socket, self._read)

    @property
    def is_usable(self) -> bool:
        """True if the driver itself would still use the connection."""
        connection = self._connection
        pool, longest = connection.pool_ref(), connection.opts.max_idle_time_seconds
        if self._broken or pool is None or (longest is not None and connection.idle_time_seconds() > longest):
            return False
        return not pool.stale_generation(connection.generation, connection.service_id)

    async def ask(self, database: str, command: dict[str, Any], within: float) -> _OpMsg:
        """Send a command, and return the reply to it."""
        connection = self._connection
        compression = connection.compression_context
        number, message, *_ = _op_msg(0, command, database, None, DEFAULT_CODEC_OPTIONS, compression)
        if connection.listeners.enabled_for_commands:
            server = connection.address, connection.server_connection_id
            connection.listeners.publish_command_start(command, database, number, *server)
        waiter = self._waiter = self._loop.create_future()
        late = self._loop.call_later(within, self._break, NetworkTimeout(f"no reply within {within:g} seconds"))
        try:
            self._send(message)
            reply = await waiter
        finally:
            late.cancel()
        self._waiter = None
        connection.update_last_checkin_time()
        return open_reply(reply, number, connection.max_message_size)

    def give_back(self, error: BaseException | None = None) -> None:
        """Return the connection to the driver, which learns of the error of its command."""
        if not self._loop.is_closed():
            self._stop()
        connection = self._connection
        if self._broken or self._waiter is not None or not isinstance(error, OperationFailure | None):
            connection.close_conn(ConnectionClosedReason.ERROR)
        else:
            self._socket.settimeout(connection.last_timeout)
        known = error if isinstance(error, PyMongoError) else None
        self._checkout.__exit__(known and type(known), known, None)

    def _send(self, message: bytes) -> None:
        self._unsent = memoryview(message)
        self._write()

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except WOULD_BLOCK:
            pass
        except OSError as error:
            self._break(AutoReconnect(str(error)))
        if bool(self._unsent) != self._writing and not self._broken:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._socket, self._write)
            else:
                self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        """Read what has arrived, up to the end of a reply."""
        try:
            for _ in range(READS):
                data = self._socket.recv(READ)
                self._received += data
                if not data:
                    self._break(AutoReconnect("the server has closed the connection"))
                    return
                if self._hand_over():
                    return
        except WOULD_BLOCK:
            return
        except OSError as error:
            self._break(AutoReconnect(str(error)))

    def _hand_over(self) -> bool:
        """Give a reply to the command that waits for it, and return True, if it has arrived in full."""
        received = self._received
        length = int.from_bytes(received[:4], "little")
        if len(received) < max(length, HEADER.size):
            return False
        reply, self._received = bytes(received), bytearray()
        if self._waiter is None or len(reply) != length:
            self._break(ProtocolError("the server has sent what nobody has asked for"))
        elif not self._waiter.done():
            self._waiter.set_result(reply)
        return True

    def _break(self, error: Exception) -> None:
        """Use the connection no more, and fail its command."""
        self._broken = True
        self._stop()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _stop(self) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)


def open_reply(reply: bytes, number: int, longest: int) -> _OpMsg:
    """Return the reply to the command of this number, of at most `longest` bytes. Raises `ProtocolError`."""
    _, _, answers, kind = HEADER.unpack_from(reply)
    content = reply[HEADER.size :]
    if kind == COMPRESSED:
        kind, _, compressor = INNER_HEADER.unpack_from(content)
        content = decompress(content[INNER_HEADER.size :], compressor, longest)
    if answers != number or kind != _OpMsg.OP_CODE:
        raise ProtocolError(f"the server has sent a reply of kind {kind} to command {answers} instead of {number}")
    return _OpMsg.unpack(content)
