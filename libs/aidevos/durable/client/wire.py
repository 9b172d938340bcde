"""Reading of NATS' protocol: messages that are handed over as they arrive.

nats-py reads in a task of its own, which takes a further turn of the event loop for whatever arrives, and parses each
message in steps that may wait. Here, messages for a taker are read when the socket has them. Everything else is left to
nats-py.

Promise: messages keep their order, whichever way they are read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping

from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

# Takes the subject, the reply subject, the payload and the headers of a message.
Take = Callable[[bytes, bytes, bytes, bytes], None]
# The first line of a message: its subject, subscription, reply subject, and sizes of its headers and in all.
_with_headers = re.compile(rb"HMSG ([^ \r\n]+) (\d+) (?:([^ \r\n]+) )?(\d+) (\d+)\r\n").match
_without_headers = re.compile(rb"MSG ([^ \r\n]+) (\d+) (?:([^ \r\n]+) )?(\d+)\r\n").match


class WireParser(Parser):
    """nats-py's parser with a faster path for the messages that are handed over."""

    def __init__(self, connection: Client, takers: Mapping[int, Take]) -> None:
        super().__init__(connection)
        self._connection = connection
        self._takers = takers
        self._parsing = False

    def read_from(self, reader: asyncio.StreamReader | None) -> None:
        """Hand messages over as soon as the reader gets them, and let it keep the rest for nats-py."""
        if reader is None:
            return
        keep, kept = reader.feed_data, reader._buffer  # type: ignore[attr-defined]

        def feed(data: bytes) -> None:
            # What arrived before is with nats-py.
            if self._takers and not kept and not self._parsing and self.state == AWAITING_CONTROL_LINE:
                data = self._take(data)
            if data:
                keep(data)

        reader.feed_data = feed  # type: ignore[assignment, method-assign]

    async def parse(self, data: bytes = b"") -> None:
        self._parsing = True
        try:
            if self._takers and self.state == AWAITING_CONTROL_LINE:
                data = self._take(data)
            if data:
                await super().parse(data)
        finally:
            self._parsing = False

    def _take(self, data: bytes) -> bytes:
        """Hand over the messages at the beginning of the data, and return what follows them.

        The beginning of another one stays in the buffer.
        """
        if self.buf:
            data = bytes(self.buf) + data
            self.buf.clear()
        at, takers, subscriptions = 0, self._takers, self._connection._subs
        while line := (_with_headers if data.startswith(b"H", at) else _without_headers)(data, at):
            subject, sid, reply, *sizes = line.groups(b"")
            number = int(sid)
            if number not in takers or number not in subscriptions:
                break
            start = line.end()
            body, end = start + (int(sizes[0]) if len(sizes) == 2 else 0), start + int(sizes[-1])
            if end + 2 > len(data):
                self.buf += data[at:]
                return b""
            takers[number](subject, reply, data[body:end], data[start:body])
            at = end + 2
        return data[at:]
