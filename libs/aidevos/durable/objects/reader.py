"""The reader of committed states that a view gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aidevos.durable.client.client import ObjectCaller, send_query
from aidevos.durable.store.conditions import Condition
from aidevos.durable.store.port import Document, Find, Store
from aidevos.security.permissions import Principal


class Reader:
    """Reads committed states for a view.

    `caller` is the view's caller; the view itself must respect what they may see. `now` is in seconds since the epoch.
    Methods raise `StoreError`.
    """

    def __init__(self, store: Store, client: ObjectCaller, caller: Principal, now: float) -> None:
        self._store = store
        self._client = client
        self.caller = caller
        self.now = now

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        """Return the existing objects with these IDs, by ID."""
        found = await self._store.read(type, ids)
        return {id: document for id, document in found.items() if document.exists}

    async def find(self, type: str, wanted: Find) -> list[Document]:
        """Return existing objects by their states. Raises `too-slow` if the time limit is exceeded."""
        return await self._store.find(type, wanted)

    async def count(self, type: str, where: Condition, *, limit: int | None = None) -> int:
        """Count the existing objects of whose states the condition is true, up to `limit`. Raises `too-slow`."""
        return await self._store.count(type, where, limit=limit)

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """Ask another view or a search, on behalf of this service, and return its decoded answer. Raises `Failure`."""
        return await send_query(self._client, type, view, args)
