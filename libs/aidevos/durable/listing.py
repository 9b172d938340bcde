"""A process's own copy of all objects of a type, as a declared search shows them.

Promise: what was committed is in the copy within moments. An event only says that there is something
new; what it is, is read as a whole from committed state: at the start, at each event, after each
reconnect and every half minute, so no lost event outlives that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError

from aidevos.contracts.errors import Failure
from aidevos.durable.client import DurableObjectClient
from aidevos.durable.event_stream import RETRY_AFTER, EventStream

READ_EVERY = 30.0
PAGE = 500

log = logging.getLogger(__name__)
Item = TypeVar("Item")


class Page(Protocol[Item]):
    @property
    def items(self) -> list[Item]: ...

    @property
    def next_cursor(self) -> str | None: ...


class Anything(msgspec.Struct):
    """An event whose content doesn't matter."""


class Listing(Generic[Item]):
    """Follows the events `changed`, reads the search at the subject `search` with the permission of a
    service, and gives all items, or the first `limit` of them, to `apply`."""

    def __init__(
        self,
        connection: Client,
        client: DurableObjectClient,
        credential: Callable[[], str],
        *,
        changed: str,
        search: str,
        page: type[Page[Item]],
        limit: int,
        apply: Callable[[list[Item]], None],
    ) -> None:
        self._client = client
        self._credential = credential
        self._search = search
        self._page = msgspec.json.Decoder(page)
        self._limit = limit
        self._apply = apply
        self._due = asyncio.Event()
        self._stream = EventStream(connection, changed, Anything, self._note, since=0.0, begun=self._due.set)

    async def follow(self) -> None:
        """Keep up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stream.follow())
            tasks.create_task(self._read_when_due())

    def _note(self, id: str, event: Anything) -> None:
        self._due.set()

    async def _read_when_due(self) -> None:
        while True:
            self._due.clear()
            try:
                self._apply(await self._read())
            except (Failure, msgspec.MsgspecError, NatsError) as error:
                log.warning("%s can't be read, trying again: %s", self._search, error)
                await asyncio.sleep(RETRY_AFTER)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_EVERY):
                    await self._due.wait()

    async def _read(self) -> list[Item]:
        found: list[Item] = []
        cursor: str | None = None
        while len(found) < self._limit:
            payload = msgspec.json.encode({"limit": PAGE, "cursor": cursor})
            reply = await self._client.request(self._search, payload, authorization=self._credential())
            page = self._page.decode(reply)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        return found[: self._limit]
