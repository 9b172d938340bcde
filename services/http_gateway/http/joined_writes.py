"""Joining of the small writes to a connection."""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """A transport that joins all writes within one round of the event loop.

    uvicorn writes a response's head and body separately, and uvloop would make a system call for each.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written:
            self._transport.write(b"".join(written))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
