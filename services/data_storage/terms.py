"""The terms of a collection: what every turn of its items must know, kept in the process for a moment.

Promise: a turn works by terms that were in force less than `LIFE` seconds before it asked for them.
So a changed configuration is in force everywhere `LIFE` seconds after its commit, and the change
itself can wait that long before it looks at what was written before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import msgspec

from aidevos.contracts.data import Rules
from services.data_storage.schemas import Validator

LIFE = 0.5
# Seconds after which whatever was begun by older terms of a collection is committed or has failed.
SETTLED = 20.0
KEPT = 10_000
TERMS = "terms"


class Index(msgspec.Struct, frozen=True):
    """One declared index: its paths, with a minus for descending ones. It serves queries once it is
    `complete`; before, it is only written."""

    paths: tuple[str, ...]
    complete: bool = False


class Terms(msgspec.Struct, kw_only=True):
    """`incarnation` tells a collection from another of the same name before it; `schemas` are texts, of
    which there are two while a change is under way; `indexes` go by their slot in the items."""

    name: str
    owner: str
    incarnation: str
    rules: Rules
    schemas: list[str] = []
    unique: list[str] = []
    indexes: dict[str, Index] = {}
    history: bool = False
    expires_after: float | None = None
    require_if_match: bool = False

    def check_data(self, data: Any, field: str) -> None:
        """Raises `invalid` for data that a schema refuses, with the path."""
        for schema in self.schemas:
            validator(schema).check(data, field)


@lru_cache(maxsize=1000)
def validator(schema: str) -> Validator:
    return Validator(msgspec.json.decode(schema))


Fetch = Callable[[], Awaitable[Terms | None]]


class TermsCache:
    """Terms by collection; those longest unused are forgotten past the bound."""

    def __init__(self, elapsed: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self._elapsed = elapsed
        self._kept: dict[str, tuple[float, Terms]] = {}
        self._asked: dict[str, asyncio.Future[Terms | None]] = {}

    def kept(self, collection: str) -> Terms | None:
        """The terms if they are fresh enough."""
        found = self._kept.get(collection)
        return found[1] if found is not None and found[0] > self._elapsed() else None

    async def get(self, collection: str, fetch: Fetch) -> Terms | None:
        """The terms; None where there was no such collection after this was called. `fetch` reads them, by
        one caller at a time."""
        earlier = self._asked.get(collection)
        while True:
            terms = self.kept(collection)
            if terms is not None:
                return terms
            asked = self._asked.get(collection)
            if asked is None:
                return await self._ask(collection, fetch)
            await asyncio.wait([asked])
            answered = not asked.cancelled() and asked.exception() is None
            if answered and asked.result() is None and asked is not earlier:
                return None

    async def _ask(self, collection: str, fetch: Fetch) -> Terms | None:
        future: asyncio.Future[Terms | None] = asyncio.get_running_loop().create_future()
        self._asked[collection] = future
        end = self._elapsed() + LIFE
        try:
            terms = await fetch()
            if terms is not None:
                self._keep(collection, end, terms)
            future.set_result(terms)
            return terms
        finally:
            del self._asked[collection]
            if not future.done():
                future.cancel()

    def _keep(self, collection: str, end: float, terms: Terms) -> None:
        self._kept.pop(collection, None)
        self._kept[collection] = (end, terms)
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
