"""Reading of NATS' protocol: messages that are handed over as they arrive.

nats-py reads in a task of its own, which takes a further turn of the event loop for whatever arrives, and parses each
message in steps that may wait. Here, messages for a taker are read when the socket has them. Everything else is left to
nats-py.

Promise: messages keep their order, whichever way they are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

# Takes the subject, the reply subject, the payload and the headers of a message.
Take = Callable[[bytes, bytes, bytes, bytes], None]
# The words of a message's first line, without those of a reply subject.
_WORDS = {b"MSG ": 4, b"HMSG": 5}


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
        at = 0
        while (verb := data[at : at + 4]) in _WORDS:
            line_end = data.find(b"\r\n", at)
            words = data[at : line_end if line_end >= 0 else at].split(b" ")
            extra = len(words) - _WORDS[verb]
            if extra not in (0, 1):
                break
            number = int(words[2]) if words[2].isdigit() else -1
            take = self._takers.get(number)
            if take is None or number not in self._connection._subs:
                break
            start = line_end + 2
            body, end = start + (int(words[-2]) if verb == b"HMSG" else 0), start + int(words[-1])
            if end + 2 > len(data):
                self.buf += data[at:]
                return b""
            take(words[1], words[3] if extra else b"", data[body:end], data[start:body])
            at = end + 2
        return data[at:]
