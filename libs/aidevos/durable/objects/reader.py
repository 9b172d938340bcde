"""The reader of committed states that a view gets."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aidevos.contracts.errors import Failure
from aidevos.durable.base.fair_share import FairShare
from aidevos.durable.client.client import ObjectCaller, send_query
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.store.conditions import Condition
from aidevos.durable.store.port import FEW, VIEW_BYTES, Document, Find, Match, Store
from aidevos.observability import tracing
from aidevos.observability.slow_log import waiting
from aidevos.security.permissions import Principal

T = TypeVar("T")


class Reader:
    """Reads committed states for a view.

    `caller` is the view's caller; the view itself must respect what they may see. `now` is in seconds since the epoch.
    Each read waits for the caller's share of `searches`. Methods raise `StoreError`, and `NewerSchema` for a state of
    one of these `types` whose schema is newer than this process's code.
    """

    def __init__(
        self,
        store: Store,
        client: ObjectCaller,
        searches: FairShare,
        caller: Principal,
        now: float,
        types: Mapping[str, ObjectType],
    ) -> None:
        self._store = store
        self._client = client
        self._searches = searches
        self._types = types
        self.caller = caller
        self.now = now

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        """Return the existing objects with these IDs, by ID."""
        found = await self._run(type, lambda: self._store.read(type, ids), len(ids))
        existing = {id: document for id, document in found.items() if document.exists}
        self._check_schemas(type, existing.values())
        return existing

    async def find(self, type: str, wanted: Find) -> Sequence[Match]:
        """Return existing objects by their states.

        Raises `too-slow` if the time limit is exceeded, and `too-large` for more than `VIEW_BYTES` bytes unless the
        search stops at its own `size`.
        """
        size = min(wanted.size or VIEW_BYTES, VIEW_BYTES)
        found = await self._run(type, lambda: self._store.find(type, wanted._replace(size=size)), wanted.limit)
        self._check_schemas(type, found)
        if wanted.size is None and len(found) < wanted.limit and sum(document.size for document in found) >= size:
            detail = f"the search found more than {size} bytes: ask for fewer objects, or `only` for parts of them"
            raise Failure("too-large", detail)
        return found

    async def count(self, type: str, where: Condition, *, limit: int | None = None) -> int:
        """Count the existing objects of whose states the condition is true, up to `limit`. Raises `too-slow`."""
        return await self._run(type, lambda: self._store.count(type, where, limit=limit))

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """Ask another view or a search, on behalf of this service, and return its decoded answer. Raises `Failure`."""
        return await send_query(self._client, type, view, args)

    def _check_schemas(self, type: str, documents: Iterable[Match]) -> None:
        known = self._types.get(type)
        if known is not None:
            for schema in {document.schema for document in documents}:
                known.check_schema(schema)

    async def _run(self, type: str, read: Callable[[], Awaitable[T]], objects: float = math.inf) -> T:
        return await read_in_turn(self._searches, self.caller, type, read, objects)


async def read_in_turn(
    searches: FairShare, caller: Principal, type: str, read: Callable[[], Awaitable[T]], objects: float = math.inf
) -> T:
    """Read up to so many objects of a type from the store, as soon as the caller's turn has come."""

    async def timed() -> T:
        with waiting("MongoDB"), tracing.within("client", describe_find, type):
            return await read()

    return await searches.run(caller.subject, timed, small=objects <= FEW)


def describe_find(type: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the span in which MongoDB searches objects of a type."""
    collection = f"obj_{type}"
    return f"find {collection}", {
        "db.system.name": "mongodb",
        "db.operation.name": "find",
        "db.collection.name": collection,
    }
