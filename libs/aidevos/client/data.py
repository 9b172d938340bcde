"""Collections of documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Generic, TypeVar, overload

import msgspec

from aidevos.client.entry import JSON_PATCH, MERGE_PATCH, EntryPoint, Operation, Options, follow_pages, given, join
from aidevos.client.errors import error_of
from aidevos.contracts import data as contract
from aidevos.contracts import subjects
from aidevos.contracts.data import CollectionEntry, Config, Version
from aidevos.contracts.errors import Failure

T = TypeVar("T")
COLLECTION, ITEM = "/data/collections/{id}", "/data/collections/{collection}/{item}"


class Item(msgspec.Struct, Generic[T], kw_only=True):
    """An item of a collection, with its document as `data`. Times are RFC 3339 in UTC."""

    id: str
    collection: str
    data: T
    version: int
    owner: str
    created_at: str
    updated_at: str


class Data:
    """The collections that the caller may know of."""

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry

    @overload
    def collection(self, name: str) -> Collection[Any]: ...
    @overload
    def collection(self, name: str, shape: type[T]) -> Collection[T]: ...
    def collection(self, name: str, shape: Any = Any) -> Collection[Any]:
        """Return a collection, whose documents have this type. Nothing is sent."""
        return Collection(self._entry, name, shape)

    def collections(self, *, project: str | None = None) -> AsyncGenerator[CollectionEntry, None]:
        """Yield the collections, with the number of items that the caller may read in each."""
        operation = Operation("GET", "/data/collections", subjects.query(contract.COLLECTION_TYPE, contract.VISIBLE))
        args = given(project=project)
        return follow_pages(lambda at: self._entry.perform(operation, args | given(cursor=at)), CollectionEntry)


class Collection(Generic[T]):
    """A collection of documents of one type. Methods raise `ApiError`.

    With `if_match`, a change of another version than this one is refused with `PreconditionFailed`.
    """

    def __init__(self, entry: EntryPoint, name: str, shape: type[T]) -> None:
        self._entry = entry
        self.name = name
        self._shape: type[Item[T]] = Item[shape]  # type: ignore[valid-type]

    async def create(self, data: T, *, id: str | None = None) -> Item[T]:
        """Create an item, by default with a new ID. Raises `Conflict` if there is one with this ID."""
        id = subjects.new_id() if id is None else id
        if not subjects.is_id(id):
            raise error_of(Failure("invalid", f"an item's ID must match {subjects.ID_PATTERN}", field="id"))
        operation = self._on("POST", id, "create")._replace(path=self._on_self("POST", "").path)
        args = {"id": id, "data": data}
        return self._item(await self._entry.perform(operation, args, over_nats=args | {"collection": self.name}))

    async def get(self, id: str, *, version: int | None = None) -> Item[T]:
        """Return an item, or an earlier version of it. Raises `NotFound`."""
        return self._item(await self._entry.perform(self._on("GET", id, "read"), given(version=version)))

    async def put(self, id: str, data: T, *, if_match: int | None = None) -> Item[T]:
        """Replace the data of an item. Raises `NotFound`."""
        operation, options = self._on("PUT", id, "replace"), Options(if_match=if_match)
        return self._item(await self._entry.perform(operation, {"data": data}, options=options))

    async def patch(
        self, id: str, patch: Mapping[str, Any] | list[dict[str, Any]], *, if_match: int | None = None
    ) -> Item[T]:
        """Change an item by a merge patch (RFC 7396), or by a list of operations of a JSON patch (RFC 6902)."""
        merges = isinstance(patch, Mapping)
        answer = await self._entry.perform(
            self._on("PATCH", id, "patch"),
            patch,
            over_nats={"patch": patch, "kind": "merge" if merges else "json"},
            media=MERGE_PATCH if merges else JSON_PATCH,
            options=Options(if_match=if_match),
        )
        return self._item(answer)

    async def delete(self, id: str, *, if_match: int | None = None) -> None:
        """Delete an item. Raises `NotFound`."""
        await self._entry.perform(self._on("DELETE", id, "delete"), options=Options(if_match=if_match))

    def find(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        sort: str | list[str] | None = None,
        fields: str | list[str] | None = None,
        page_size: int = 50,
    ) -> AsyncGenerator[Item[T], None]:
        """Yield all items that match a filter and that the caller may read, page by page.

        `sort` are paths in the data, with a minus for the reverse order. With `fields`, only these paths are shown.
        """
        args = given(filter=filter, sort=join(sort), fields=join(fields), limit=page_size)
        return follow_pages(lambda at: self._search(args | given(cursor=at)), self._shape)

    async def count(self, filter: Mapping[str, Any] | None = None) -> int:
        """Return the number of items that match a filter and that the caller may read."""
        return int((await self._search(given(filter=filter, limit=1, count=True)))["count"])

    def history(self, id: str) -> AsyncGenerator[Version, None]:
        """Yield the versions of an item, the latest first. The collection must keep a history."""
        operation = self._on("GET", id, "history", "/history")
        return follow_pages(lambda at: self._entry.perform(operation, given(cursor=at)), Version)

    async def restore(self, id: str, version: int, *, if_match: int | None = None) -> Item[T]:
        """Give an item the data of an earlier version, also after its deletion."""
        operation = self._on("POST", id, "restore", f"/restore?version={version}")
        options = Options(if_match=if_match)
        return self._item(await self._entry.perform(operation, over_nats={"version": version}, options=options))

    async def configure(self, config: Config | None = None) -> contract.Collection:
        """Create the collection, or replace its configuration as a whole."""
        config = config or Config()
        operation = self._on_self("PUT", "configure")
        answer = await self._entry.perform(operation, config, over_nats={"config": config})
        return msgspec.convert(answer, contract.Collection)

    async def config(self) -> contract.Collection:
        """Return the configuration. Raises `NotFound`."""
        operation = self._on_self("GET", "config", "/config")
        return msgspec.convert(await self._entry.perform(operation), contract.Collection)

    async def drop(self) -> None:
        """Delete the collection with all its items."""
        await self._entry.perform(self._on_self("DELETE", "delete"))

    async def _search(self, args: dict[str, Any]) -> Any:
        operation = Operation("GET", self._on_self("GET", "").path, subjects.query(contract.ITEM_TYPE, contract.FIND))
        return await self._entry.perform(operation, args, over_nats=args | {"collection": self.name})

    def _on(self, verb: str, id: str, method: str, rest: str = "") -> Operation:
        try:
            object_id = contract.item_object(self.name, id)
        except Failure as failure:
            raise error_of(failure) from None
        return Operation.on(verb, ITEM + rest, contract.ITEM_TYPE, object_id, method, collection=self.name, item=id)

    def _on_self(self, verb: str, method: str, rest: str = "") -> Operation:
        return Operation.on(verb, COLLECTION + rest, contract.COLLECTION_TYPE, self.name, method)

    def _item(self, answer: Any) -> Item[T]:
        return msgspec.convert(answer, self._shape)
