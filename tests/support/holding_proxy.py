"""A proxy for MongoDB that holds writes up on their way."""

from __future__ import annotations

import asyncio

from tests.support.cutting_proxy import UPDATE, CuttingProxy


class HoldingProxy(CuttingProxy):
    """A proxy whose `hold` holds updates up from now on, until `release`.

    `held` is set once it has held an update up, and `landed` once the server has answered such an update.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.held, self.landed = asyncio.Event(), asyncio.Event()
        self._passes = asyncio.Event()
        self._passes.set()

    def hold(self) -> None:
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    async def _requests(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await source.read(1 << 20):
            if UPDATE in data and not self._passes.is_set():
                self.held.set()
                cut.set()
                await self._passes.wait()
            to.write(data)
            await to.drain()
        to.close()

    async def _answers(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        while data := await source.read(1 << 20):
            to.write(data)
            if cut.is_set():
                self.landed.set()
        to.close()
