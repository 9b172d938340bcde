"""Copies of committed state that a process keeps in memory.

Promise: a commit shows in the copy within moments. An event only signals that there is something new. The copy is then
read as a whole: at the start, after each event, after each reconnect and every half minute. So a lost event delays a
change by half a minute at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec
from nats.errors import Error as NatsError

from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import FOLLOWING
from aidevos.durable.bus.follow import EventStream
from aidevos.durable.client.client import DurableObjectClient

READ_EVERY = 30.0
PAGE = 500

log = logging.getLogger(__name__)
Item = TypeVar("Item")


class AnyEvent(msgspec.Struct):
    """An event whose content is ignored."""


class Mirror:
    """Calls `read`, which replaces the whole copy, whenever the state may have changed.

    `changed` is the pattern of the events that signal a change. `label` names the copy in the log.
    """

    def __init__(self, stream: EventStream, label: str, changed: str, read: Callable[[], Awaitable[None]]) -> None:
        self._label = label
        self._read = read
        self._due = asyncio.Event()
        stream.on(changed, AnyEvent, self._request_read)
        stream.on_begin(self._due.set)

    def _request_read(self, id: str, event: AnyEvent) -> None:
        self._due.set()

    async def follow(self) -> None:
        """Keep the copy up to date until cancelled."""
        pauses = FOLLOWING.pauses()
        while True:
            self._due.clear()
            try:
                await self._read()
            except (Failure, msgspec.MsgspecError, NatsError) as error:
                log.warning("the %s can't be read, trying again: %s", self._label, error)
                await pauses.wait()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_EVERY):
                    await self._due.wait()


class Page(Protocol[Item]):
    """One page of a search."""

    @property
    def items(self) -> list[Item]: ...

    @property
    def next_cursor(self) -> str | None: ...


async def read_all(
    client: DurableObjectClient, authorization: str | None, subject: str, page: type[Page[Item]], limit: int
) -> list[Item]:
    """Read a search page by page and return at most `limit` items.

    `subject` is the search's subject and `page` its result type. Without `authorization`, the client's own is used.
    Raises `Failure`.
    """
    found: list[Item] = []
    cursor: str | None = None
    while len(found) < limit:
        payload = msgspec.json.encode({"limit": PAGE, "cursor": cursor})
        one = msgspec.json.decode(await client.request(subject, payload, authorization=authorization), type=page)
        found += one.items
        cursor = one.next_cursor
        if cursor is None:
            break
    return found[:limit]
