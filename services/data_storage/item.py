"""An item of a collection: one document, one object.

Promise: whatever is written was admitted by the collection's rules and fits its schema, by the terms
of a second ago at most. Who may not read an item gets the same answer as where there is none.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from aidevos import BaseDurableObject, Event, Failure, anyone, command, query
from aidevos.contracts.data import ITEM_TYPE, CollectionName, Item, ItemId, item_object
from aidevos.durable.clock import rfc3339, timestamp
from services.data_storage import access, values
from services.data_storage.access import Operation
from services.data_storage.patches import apply
from services.data_storage.terms import Terms, TermsCache

STATE_LIMIT = 2 * 1024 * 1024


class ItemState(msgspec.Struct):
    """`data` is as `values` encodes it. `incarnation` is that of the collection for which the item was
    made. Times are in seconds since the epoch. A `removed` item has left its versions behind."""

    incarnation: str = ""
    collection: str = ""
    item: str = ""
    owner: str = ""
    author: str = ""
    data: Any = None
    keys: dict[str, str] = {}
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float | None = None
    removed: bool = False


class Created(Event):
    collection: str
    id: str
    version: int


class Updated(Event):
    collection: str
    id: str
    version: int


class Deleted(Event):
    collection: str
    id: str
    version: int


def show(state: ItemState, version: int) -> Item:
    """The item as it is shown."""
    return Item(
        id=state.item,
        collection=state.collection,
        data=values.decode(state.data),
        version=version,
        owner=state.owner,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )


class ItemDO(BaseDurableObject[ItemState], type=ITEM_TYPE, management="read_only"):
    """An item of a collection. Its ID is that of the name `<collection>/<item>`."""

    terms: ClassVar[TermsCache]
    state_limit = STATE_LIMIT

    @command(allow=anyone())
    async def create(self, collection: CollectionName, id: ItemId, data: Any) -> Item:
        """Make the item. Where there is no such collection, it is made for those who may."""
        if item_object(collection, id) != self.id:
            raise Failure("invalid", "this is the object of another item", field="id")
        values.check(data, "args.data")
        terms = await self._terms_for_new(collection)
        if self._lives(terms):
            raise Failure("exists", "there is an item with this ID", field="args.id")
        self.state = ItemState(
            incarnation=terms.incarnation,
            collection=collection,
            item=id,
            owner=self.caller.subject,
            created_at=self.now,
        )
        await self._write(terms, data, "args.data")
        self.emit(Created(collection=collection, id=id, version=self.version + 1))
        return self._shown(changes=1)

    @query(allow=anyone())
    async def read(self) -> Item:
        """The item, for those who may read it; for others there is none."""
        await self._admit("read")
        return self._shown()

    @command(allow=anyone(), matches=False)
    async def replace(self, data: Any) -> Item:
        """Put other data in the place of the item's."""
        values.check(data, "args.data")
        return await self._change(await self._admit("update"), data, "args.data")

    @command(allow=anyone(), matches=False)
    async def patch(self, patch: Any, kind: Literal["merge", "json"] = "merge") -> Item:
        """Change the data by a merge patch (RFC 7396) or a JSON patch (RFC 6902), all of it or nothing."""
        terms = await self._admit("update")
        data = apply(values.decode(self.state.data), patch, kind, "args.patch")
        values.check(data, "data")
        return await self._change(terms, data, "data")

    @command(allow=anyone(), matches=False, name="delete")
    async def delete_item(self) -> None:
        """End the item."""
        await self._admit("delete")
        state = self.state
        self.emit(Deleted(collection=state.collection, id=state.item, version=self.version + 1))
        await self.delete()

    async def _admit(self, operation: Operation) -> Terms:
        """The terms, once the caller is known to be allowed this; writers have named the right version."""
        state = self.state
        terms = await self._terms(state.collection) if state.incarnation else None
        if terms is None or not self._lives(terms):
            raise access.no_item()
        if not access.admits(terms.rules, operation, self.caller, state.owner):
            if operation != "read" and access.admits(terms.rules, "read", self.caller, state.owner):
                raise Failure("forbidden", f"the collection's rules don't let the caller {operation} this item")
            raise access.no_item()
        if operation != "read":
            if terms.require_if_match and self.if_match is None:
                raise Failure("precondition-required", "name the version that is changed", field="If-Match")
            self.check_if_match()
        return terms

    async def _terms(self, collection: str) -> Terms | None:
        return self.terms.kept(collection) or await self.terms.get(collection, self.ask)

    async def _terms_for_new(self, collection: str) -> Terms:
        terms = await self._terms(collection)
        if terms is None and self.caller.has(access.CREATE_COLLECTIONS) and self.caller.has(access.WRITE):
            await self.call("collection", collection, "begin", owner=self.caller.subject)
            terms = await self._terms(collection)
        if terms is None:
            raise access.no_collection()
        if not access.admits(terms.rules, "create", self.caller, terms.owner):
            if not access.knows(terms.rules, self.caller, terms.owner):
                raise access.no_collection()
            raise Failure("forbidden", "the collection's rules don't let the caller create items")
        return terms

    def _lives(self, terms: Terms) -> bool:
        state = self.state
        expired = state.expires_at is not None and state.expires_at <= self.now
        return state.incarnation == terms.incarnation and not state.removed and not expired

    async def _change(self, terms: Terms, data: Any, field: str) -> Item:
        await self._write(terms, data, field)
        state = self.state
        self.emit(Updated(collection=state.collection, id=state.item, version=self.version + 1))
        return self._shown(changes=1)

    async def _write(self, terms: Terms, data: Any, field: str) -> None:
        terms.check_data(data, field)
        state = self.state
        state.data = values.encode(data)
        state.author = self.caller.subject
        state.updated_at = self.now
        state.expires_at = None if terms.expires_after is None else self.now + terms.expires_after

    def _shown(self, changes: int = 0) -> Item:
        return show(self.state, self.version + changes)
