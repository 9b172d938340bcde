"""Joining of the small writes to a connection."""

from __future__ import annotations

import asyncio
from typing import Any

# Seconds that a client has to take what was written before the connection closed.
LINGER = 10.0


class JoinedWrites:
    """A transport that joins all writes within one round of the event loop.

    uvicorn writes a response's head and body separately, and uvloop would make a system call for each. It would also
    wake the client in the middle of the round, which costs the other requests of the round a tenth of their time. A
    client that doesn't read can't keep a closed connection open.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LINGER, self._transport.abort)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written:
            self._transport.write(b"".join(written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
