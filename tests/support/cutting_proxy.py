"""A proxy for MongoDB that forwards a write and cuts the connection before the answer."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

UPDATE = b"\x02update\0"


class CuttingProxy:
    """A proxy that cuts the next `cuts` updates before their answers; `url` leads to the server through it."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._open: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        credentials = self._target.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._target._replace(netloc=f"{credentials}@127.0.0.1:{port}"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        writers = list(self._open)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    def drop(self) -> None:
        """Close all connections."""
        for writer in self._open:
            writer.close()

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        both = {to_client, to_server}
        self._open |= both
        cut = asyncio.Event()
        try:
            await asyncio.gather(
                self._requests(from_client, to_server, cut), self._answers(from_server, to_client, cut)
            )
        except OSError:
            pass  # if one side disconnects, disconnect the other
        finally:
            self._open -= both
            for writer in both:
                writer.close()

    async def _requests(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await source.read(1 << 20):
            if self.cuts and UPDATE in data:
                self.cuts -= 1
                cut.set()
            to.write(data)
            await to.drain()
        to.close()

    async def _answers(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await source.read(1 << 20):
            if cut.is_set():
                break
            to.write(data)
            await to.drain()
        to.close()
