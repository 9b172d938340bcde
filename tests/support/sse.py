"""A reader of server-sent events (WHATWG HTML §9.2.6) that keeps what it receives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
import msgspec


class Seen(NamedTuple):
    event: str
    id: str
    data: Any

    @property
    def about(self) -> Any:
        """The data of the CloudEvent."""
        return self.data["data"]


class Source:
    """One request for `/events`; `last_event_id` is the reader's place in the stream."""

    def __init__(self, http: httpx2.AsyncClient, headers: dict[str, str], after: str = "", **parameters: str) -> None:
        self.seen: list[Seen] = []
        self.last_event_id = after
        self.headers: httpx2.Headers = httpx2.Headers()
        self.status = 0
        self.comments = 0
        self._came = asyncio.Event()
        sent = headers | ({"Last-Event-ID": after} if after else {})
        self._task = asyncio.create_task(self._read(http, sent, parameters))
        self._task.add_done_callback(lambda _: self._came.set())

    @property
    def shown(self) -> list[Any]:
        """The data of the CloudEvents."""
        return [seen.about for seen in self.seen if seen.event not in ("end", "gap")]

    @property
    def done(self) -> bool:
        """True if the response or the connection has ended."""
        return self._task.done()

    async def opened(self) -> Source:
        """Return once the server has begun to send."""
        await self.until(lambda: self.last_event_id != "" or self.status >= 400)
        return self

    async def wait(self, count: int) -> list[Any]:
        """Return the data of the CloudEvents, once there are at least `count`."""
        await self.until(lambda: len(self.shown) >= count)
        return self.shown

    async def until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        async with asyncio.timeout(within):
            while not condition():
                assert not self._task.done() or self._task.exception() is None, self._task.exception()
                self._came.clear()
                await self._came.wait()

    async def ended(self, within: float = 10.0) -> None:
        """Return once the server has ended the stream or the connection."""
        async with asyncio.timeout(within):
            await asyncio.wait([self._task])

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, http: httpx2.AsyncClient, headers: dict[str, str], parameters: dict[str, str]) -> None:
        with contextlib.suppress(httpx2.TransportError):
            async with http.stream("GET", "/events", params=parameters, headers=headers, timeout=None) as answer:
                self.status, self.headers = answer.status_code, answer.headers
                self._came.set()
                if answer.status_code == 200:
                    await self._parse(answer)

    async def _parse(self, answer: httpx2.Response) -> None:
        fields: dict[str, list[str]] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(":")
                self.comments += not name
                fields.setdefault(name, []).append(value.removeprefix(" "))
                continue
            self.last_event_id = fields.get("id", [self.last_event_id])[-1]
            if "data" in fields:
                data = msgspec.json.decode("\n".join(fields["data"]))
                self.seen.append(Seen(fields.get("event", ["message"])[-1], self.last_event_id, data))
            fields = {}
            self._came.set()
