"""An item of a collection: one document, one object.

Promise: every write is admitted by the collection's rules and satisfies its schema and unique fields,
by terms that are at most a second old. A caller who may not read an item gets the same answer as if the
item didn't exist. A collection with history keeps every version before it is overwritten or deleted.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, command, inject, new_id, query, services
from aidevos.contracts.data import (
    COLLECTION_TYPE,
    ERASER_TYPE,
    FIND,
    HISTORY_LIMIT,
    ITEM_TYPE,
    MAX_INDEXES,
    RESERVED_IDS,
    VERSION_TYPE,
    CollectionName,
    FindItems,
    History,
    Item,
    ItemId,
    Version,
    item_object,
)
from aidevos.projects.memberships import Memberships
from aidevos.queries import View

from . import access, reservations, values
from .access import Operation
from .eraser import IDS, IdsArgs, make_ids_view
from .filters import parse_fields
from .find import answer_find
from .item_state import (
    Change,
    Created,
    Deleted,
    ItemState,
    Updated,
    holds,
    is_live,
    load_data,
    project_shown,
    render,
    show,
)
from .item_views import (
    EXPIRED,
    HELD,
    MEMBERS,
    OFFENDERS,
    ExpiredArgs,
    HeldArgs,
    MembersArgs,
    OffendersArgs,
    answer_expired,
    answer_held,
    answer_members,
    answer_offenders,
)
from .keys import compute_index_keys
from .membership import resolve_terms
from .patches import apply
from .terms import TERMS, Terms, TermsCache
from .unique import unique_ids
from .versions import OF, KeptVersion, VersionState, pack, show_entry, unpack, version_id


class ItemDO(BaseDurableObject[ItemState], type=ITEM_TYPE, management="read_only"):
    """An item of a collection. Its ID is derived from the name `<collection>/<item>`."""

    project_aware = True
    terms: TermsCache = inject()
    memberships: Memberships = inject()
    # The data, their JSON, and the keys.
    state_limit = 4 * 1024 * 1024
    views: ClassVar[tuple[View, ...]] = (
        View(IDS, services(), IdsArgs, make_ids_view(ITEM_TYPE)),
        View(HELD, services(), HeldArgs, answer_held),
        View(EXPIRED, services(), ExpiredArgs, answer_expired),
        View(MEMBERS, services(), MembersArgs, answer_members),
        View(OFFENDERS, services(), OffendersArgs, answer_offenders),
        View(FIND, anyone(), FindItems, answer_find),
    )
    indexes = (("incarnation", "item"), ("owner",))
    sparse_indexes = (("expires_at",), *(("incarnation", f"keys.{slot}") for slot in range(MAX_INDEXES)))

    @command(allow=anyone(), creates=True)
    async def create(self, collection: CollectionName, id: ItemId, data: Any) -> Item:
        """Create the item. A missing collection is created too, if the caller may create it."""
        if item_object(collection, id) != self.id:
            raise Failure("invalid", "this object belongs to another item", field="id")
        if id in RESERVED_IDS:
            raise Failure("invalid", f"the ID {id} is reserved for paths of the collection", field="args.id")
        document = values.check(data, "args.data")
        terms = await self._load_terms_for_create(collection)
        if is_live(self.state, terms.incarnation, self.now):
            raise Failure("exists", "an item with this ID already exists", field="args.id")
        self._erase_versions()
        self.state = ItemState(
            incarnation=terms.incarnation,
            collection=collection,
            item=id,
            life=new_id(),
            owner=self.caller.subject,
            created_at=self.now,
            reserved=self.state.reserved,
        )
        await self._write(terms, document, "args.data")
        self.emit(self._make_event(Created))
        return _encoded(show(self.state, self.version + 1))

    @query(allow=anyone())
    async def read(self, version: int | None = None, fields: str = "") -> Item:
        """Return the item, or an earlier version of it.

        `fields` is a comma-separated list of paths; if given, only these parts of the data are returned.
        """
        await self._admit("read")
        item = await self._show_version(version)
        return _encoded(project_shown(item, parse_fields(fields, "args.fields")) if fields else item)

    async def _show_version(self, version: int | None) -> msgspec.Raw:
        if version is None or version == self.version:
            return show(self.state, self.version)
        kept = await self._load_version(version)
        if kept.removed:
            raise access.item_not_found()
        was = msgspec.structs.replace(
            self.state, data=kept.data, shown=kept.shown, owner=kept.owner, updated_at=kept.at
        )
        return show(was, version)

    @command(allow=anyone(), checks_if_match=False)
    async def replace(self, data: Any) -> Item:
        """Replace the item's data."""
        document = values.check(data, "args.data")
        return await self._change(await self._admit("update"), document, "args.data")

    @command(allow=anyone(), checks_if_match=False)
    async def patch(self, patch: Any, kind: Literal["merge", "json"] = "merge") -> Item:
        """Apply a merge patch (RFC 7396) or a JSON patch (RFC 6902), completely or not at all."""
        terms = await self._admit("update")
        data = apply(load_data(self.state), patch, kind, "args.patch")
        return await self._change(terms, values.check(data, "data"), "data")

    @command(allow=anyone(), checks_if_match=False)
    async def restore(self, version: int) -> Item:
        """Restore the data of an earlier version, even if the item is deleted."""
        terms = await self._admit("update", removed=True)
        kept = await self._load_version(version)
        if kept.removed:
            raise Failure("invalid", "this version is a deletion and has no data", field="args.version")
        return await self._change(terms, values.check(load_data(kept), "data"), "data")

    @command(allow=anyone(), checks_if_match=False, name="delete")
    async def delete_item(self) -> None:
        """Delete the item. In a collection with history it can be restored."""
        terms = await self._admit("delete")
        state = self.state
        self.emit(self._make_event(Deleted))
        if not terms.history:
            await self._erase()
            return
        await self._keep_version()
        reservations.release(self, state.reserved, self.version + 1)
        state.removed, state.data, state.shown, state.keys = True, None, "", {}
        state.reserved, state.expires_at = [], None
        state.author, state.updated_at = self.caller.subject, self.now

    @query(allow=anyone())
    async def history(self, limit: int = 50, cursor: str | None = None) -> History:
        """Return the item's versions, latest first, even if the item is deleted."""
        await self._admit("read", removed=True)
        if not 1 <= limit <= HISTORY_LIMIT:
            raise Failure("invalid", f"the limit must be from 1 to {HISTORY_LIMIT}", field="args.limit")
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise Failure("invalid", "this cursor was not issued for this list", field="args.cursor")
        before = self.version if cursor is None else min(int(cursor), self.version)
        reply = await self.ask(VERSION_TYPE, OF, life=self.state.life, before=before, limit=limit + 1)
        found = msgspec.convert(reply, list[Version])
        if cursor is None:
            found.insert(0, show_entry(self._as_version()))
        more = len(found) > limit
        return History(items=found[:limit], next_cursor=str(found[limit - 1].version) if more else None)

    @command(allow=services(), keeps_version=True)
    async def holds(self, unique: str) -> bool:
        """Return True if this item holds a value of a unique field.

        This is a command so that a commit of an earlier owner of this object is decided before the answer.
        """
        self._check_exists()
        return holds(self.state, unique, self.now)

    @command(allow=services(), keeps_version=True)
    async def reserve(self, incarnation: str, paths: list[str]) -> None:
        """Reserve the item's values in fields that are about to become unique."""
        self._check_exists()
        if is_live(self.state, incarnation, self.now):
            wanted = unique_ids(incarnation, paths, load_data(self.state))
            await reservations.reserve(self, wanted, "data", self.version)
            self.state.reserved = sorted({*self.state.reserved, *wanted})

    @command(allow=services(), keeps_version=True)
    async def rekey(self) -> None:
        """Rewrite the item's keys for the collection's present indexes."""
        self._check_exists()
        terms = await self._load_terms(self.state.collection)
        if terms is not None and is_live(self.state, terms.incarnation, self.now):
            self.state.keys = compute_index_keys(terms.indexes, load_data(self.state), self.state.item)

    @command(allow=services())
    async def vanish(self, by: Literal["owner", "incarnation", "life", "expiry"], value: str = "") -> None:
        """Erase the item if it has expired, or if its attribute `by` still has this value."""
        self._check_exists()
        state = self.state
        expired = state.expires_at is not None and state.expires_at <= self.now
        if not (expired if by == "expiry" else getattr(state, by) == value):
            raise access.item_not_found()
        if not state.removed:
            self.emit(self._make_event(Deleted))
        await self._erase()

    async def _admit(self, operation: Operation, *, removed: bool = False) -> Terms:
        """Check that the caller may do this, and return the terms that apply to the caller.

        Writes must also match the version in `If-Match`, if it is given or required. With `removed`, a deleted
        item that can be restored is admitted too.
        """
        state = self.state
        terms = await self._load_terms(state.collection) if state.incarnation else None
        if terms is None or not is_live(state, terms.incarnation, self.now, removed=removed):
            raise access.item_not_found()
        terms = await self._resolve_terms(terms)
        if terms is None:
            raise access.item_not_found()
        if not access.admits(terms.rules, operation, self.caller, state.owner, collection=terms.name):
            if operation != "read" and access.admits(
                terms.rules, "read", self.caller, state.owner, collection=terms.name
            ):
                raise Failure("forbidden", f"the collection's rules don't allow you to {operation} this item")
            raise access.item_not_found()
        if operation != "read":
            if terms.require_if_match and self.if_match is None:
                raise Failure("precondition-required", "name the version to change", field="If-Match")
            self.check_if_match()
        return terms

    async def _load_terms(self, collection: str) -> Terms | None:
        async def fetch() -> Terms | None:
            return msgspec.convert(await self.ask(COLLECTION_TYPE, TERMS, name=collection), Terms | None)

        return self.terms.kept(collection) or await self.terms.get(collection, fetch)

    async def _resolve_terms(self, terms: Terms) -> Terms | None:
        return await resolve_terms(self.caller, terms, self.memberships, self)

    async def _load_terms_for_create(self, collection: str) -> Terms:
        terms = await self._load_terms(collection)
        if terms is None and access.may_create_collection(self.caller, collection=collection):
            await self.call(COLLECTION_TYPE, collection, "begin", owner=self.caller.subject)
            terms = await self._load_terms(collection)
        terms = terms and await self._resolve_terms(terms)
        if terms is None:
            raise access.collection_not_found()
        access.check_may_create(terms.rules, self.caller, terms.owner, collection=collection)
        return terms

    async def _change(self, terms: Terms, document: values.Document, field: str) -> Item:
        if terms.history or self.state.removed:
            await self._keep_version()
        await self._write(terms, document, field)
        self.emit(self._make_event(Updated))
        return _encoded(show(self.state, self.version + 1))

    async def _write(self, terms: Terms, document: values.Document, field: str) -> None:
        data = document.value
        terms.check_data(data, field)
        state = self.state
        if terms.unique or state.reserved:
            wanted = unique_ids(terms.incarnation, terms.unique, data)
            await reservations.reserve(self, wanted, field, self.version + 1)
            reservations.release(self, set(state.reserved) - wanted.keys(), self.version + 1)
            state.reserved = sorted(wanted)
        state.data = document.stored
        state.keys = compute_index_keys(terms.indexes, data, state.item)
        state.removed = False
        state.author, state.updated_at = self.caller.subject, self.now
        state.expires_at = None if terms.expires_after is None else self.now + terms.expires_after
        state.shown = render(state, self.version + 1, msgspec.Raw(document.text))

    def _make_event(self, kind: type[Change]) -> Change:
        state = self.state
        return kind(
            collection=state.collection,
            id=state.item,
            version=self.version + 1,
            owner=state.owner,
            incarnation=state.incarnation,
        )

    async def _erase(self) -> None:
        reservations.release(self, self.state.reserved, self.version + 1)
        self._erase_versions()
        await self.delete()

    def _erase_versions(self) -> None:
        if self.state.kept:
            self.tell(ERASER_TYPE, self.state.life, "erase", by="life")

    def _check_exists(self) -> None:
        if not self.state.incarnation:
            raise access.item_not_found()

    async def _keep_version(self) -> None:
        self.state.kept = True
        kept = pack(self._as_version())
        await self.call(VERSION_TYPE, version_id(self.id, self.version), "keep", version=kept)

    async def _load_version(self, version: int) -> VersionState:
        if version == self.version and not self.state.removed:
            return self._as_version()
        if not 0 < version < self.version:
            raise Failure("not-found", "this version doesn't exist")
        reply = await self.call(VERSION_TYPE, version_id(self.id, version), "show", life=self.state.life)
        return unpack(msgspec.convert(reply, KeptVersion))

    def _as_version(self) -> VersionState:
        state = self.state
        return VersionState(
            life=state.life,
            incarnation=state.incarnation,
            owner=state.owner,
            number=self.version,
            shown="" if state.removed else bytes(show(state, self.version)).decode(),
            author=state.author,
            at=state.updated_at,
            removed=state.removed,
        )


def _encoded(item: msgspec.Raw) -> Item:
    """Return an item in JSON as a method's result, which the framework passes on as it is."""
    return cast(Item, item)
