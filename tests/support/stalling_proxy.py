"""A proxy that can stop forwarding without closing its connections."""

from __future__ import annotations

import asyncio

from tests.support.cutting_proxy import CuttingProxy


class StallingProxy(CuttingProxy):
    """A proxy whose `stall` blocks the open connections for ever; later connections work.

    `holds` is set once it has blocked data.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.holds = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stall(self) -> None:
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def _requests(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        await self._pass_on(source, to)

    async def _answers(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        await self._pass_on(source, to)

    async def _pass_on(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        flowing = self._flowing
        while data := await source.read(1 << 16):
            if not flowing.is_set():
                self.holds.set()
            await flowing.wait()
            to.write(data)
            await to.drain()
        to.close()
