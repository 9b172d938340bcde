"""What a view reads with: committed states, on behalf of one caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aidevos.durable.client.client import ObjectCaller, send_query
from aidevos.durable.store.conditions import Condition
from aidevos.durable.store.port import Document, Find, Store
from aidevos.security.permissions import Principal


class Reader:
    """`caller` has asked; `now` is in seconds since the epoch. Methods raise `StoreError`."""

    def __init__(self, store: Store, client: ObjectCaller, caller: Principal, now: float) -> None:
        self._store = store
        self._client = client
        self.caller = caller
        self.now = now

    async def read(self, type: str, ids: Sequence[str]) -> dict[str, Document]:
        """The existing objects among these, by ID."""
        found = await self._store.read(type, ids)
        return {id: document for id, document in found.items() if document.exists}

    async def find(self, type: str, wanted: Find) -> list[Document]:
        """Existing objects by their states. Raises `too-slow` past the time limit, like `count`."""
        return await self._store.find(type, wanted)

    async def count(self, type: str, where: Condition, *, limit: int | None = None) -> int:
        """How many existing objects there are of which the condition is true, up to the limit."""
        return await self._store.count(type, where, limit=limit)

    async def ask(self, type: str, view: str, /, **args: Any) -> Any:
        """What another view or a search answers now, on behalf of this service. Raises `Failure`."""
        return await send_query(self._client, type, view, args)
