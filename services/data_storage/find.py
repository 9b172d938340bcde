"""Queries of a collection: pages of items from committed states, as far as the caller may read them.

Promise: what the caller may not read is asked of nobody, and neither found nor counted. Each page goes
on behind the place where the one before has ended, in an order in which no two items are alike: so an
item that stays where it is comes once, whatever is written meanwhile. A query goes by an index or is
of few items, and always has a time limit.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from aidevos.contracts.data import ITEM_TYPE, FindItems, Item
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT
from aidevos.projects.memberships import Memberships
from aidevos.queries import And, Compare, Condition, Document, Find, Path, Reader, at, matches

from . import access, values
from .collection_views import TermsArgs, answer_terms
from .cursors import Cursors, Position
from .filters import in_store, parse_fields, parse_filter, parse_sort, project
from .item_state import ItemState, show
from .keys import encode_key
from .membership import terms_for
from .paths import Field
from .plans import Plan, plan
from .terms import Index, Terms, TermsCache
from .visibility import readable_items

# Items of a collection that may be asked for what no index serves.
FEW = 10_000
# What one answer may have, in bytes: of documents, and of JSON.
FOUND_SIZE = 4 * 1024 * 1024
ANSWER_SIZE = 3 * 1024 * 1024
BY_ID: Path = ("item",)
DATA = "data"
SHOWN: tuple[Path, ...] = (BY_ID, (DATA,), ("collection",), ("owner",), ("created_at",), ("updated_at",))


class Query(NamedTuple):
    """A query, read and planned. `where` says all of it of an item's state, and `paths` are those of its index."""

    where: Condition
    sort: list[Field]
    plan: Plan | None
    paths: list[str]


class FoundItems(msgspec.Struct, kw_only=True):
    """An `ItemPage` of items that are encoded already."""

    items: list[msgspec.Raw]
    next_cursor: str | None = None
    count: int | msgspec.UnsetType = msgspec.UNSET


class Finder:
    """Answers queries; `terms` and `memberships` are those of this process."""

    def __init__(self, terms: TermsCache, memberships: Memberships, cursors: Cursors) -> None:
        self._terms = terms
        self._memberships = memberships
        self._cursors = cursors

    async def answer(self, reader: Reader, args: FindItems) -> FoundItems:
        """One page of a collection's items."""
        if not 1 <= args.limit <= LIST_LIMIT:
            raise Failure("invalid", f"limit is from 1 to {LIST_LIMIT}", field="args.limit")
        fields = parse_fields(args.fields, "args.fields") if args.fields else None
        terms = await self._known(reader, args.collection)
        # What is the same in every page.
        bound = (terms.incarnation, reader.caller.subject, args.filter, args.sort)
        begin = None if args.cursor is None else self._cursors.decode(args.cursor, *bound)
        query = _read(reader, terms, args, begin)
        after = begin.key if begin is not None else None
        if query.plan is None:
            await _check_few(reader, terms)
        if query.plan is None and query.sort:
            page = await _sorted(reader, query, after, args.limit)
        else:
            page = await _found(reader, query, after, args.limit)
        items = [msgspec.json.encode(_item(document, fields)) for document in page.documents]
        fitting = _fitting(items)
        shown = FoundItems(items=[msgspec.Raw(item) for item in items[:fitting]])
        if page.more or fitting < len(items):
            last = page.places[fitting - 1] if fitting < len(items) else page.last
            slot = query.plan.slot if query.plan is not None else None
            shown.next_cursor = self._cursors.encode(Position(slot, query.paths, last, ""), *bound)
        if args.count:
            shown.count = await reader.count(ITEM_TYPE, query.where)
        return shown

    async def _known(self, reader: Reader, collection: str) -> Terms:
        async def fetch() -> Terms | None:
            return await answer_terms(reader, TermsArgs(collection))

        terms = await self._terms.get(collection, fetch)
        terms = terms and await terms_for(reader.caller, terms, self._memberships, reader)
        if terms is None or not access.knows(terms.rules, reader.caller, terms.owner, collection=collection):
            raise access.no_collection()
        return terms


async def answer_find(reader: Reader, args: FindItems, finder: Finder) -> FoundItems:
    """One page of a collection's items."""
    return await finder.answer(reader, args)


class Page(NamedTuple):
    """Documents, the place of each in the order, the last place that was looked at, and whether there
    are more behind it."""

    documents: list[Document]
    places: list[str]
    last: str
    more: bool


def _read(reader: Reader, terms: Terms, args: FindItems, begin: Position | None) -> Query:
    wanted = parse_filter(args.filter, "args.filter")
    sort = parse_sort(args.sort, "args.sort") if args.sort else []
    chosen = plan(wanted, sort, terms.indexes if begin is None else _same_index(terms, begin))
    readable = readable_items(terms.rules, terms.name, terms.incarnation, reader.caller, reader.now)
    if chosen is None or chosen.slot is None:
        return Query(And((readable, in_store(wanted, DATA))), sort, chosen, [])
    keys = ("keys", chosen.slot)
    within = (Compare(keys, "gte", chosen.keys.low), Compare(keys, "lt", chosen.keys.high))
    where = And((readable, in_store(chosen.residual, DATA), *within))
    return Query(where, sort, chosen, list(terms.indexes[chosen.slot].paths))


def _same_index(terms: Terms, begin: Position) -> dict[str, Index]:
    """The index by which the pages before have gone; none, if they went by none."""
    if begin.slot is None:
        return {}
    index = terms.indexes.get(begin.slot)
    if index is None or list(index.paths) != begin.index:
        raise Failure("invalid", "the index of this query is gone; begin again", field="args.cursor")
    return {begin.slot: index}


async def _check_few(reader: Reader, terms: Terms) -> None:
    counted = await reader.count(ITEM_TYPE, Compare(("incarnation",), "eq", terms.incarnation), limit=FEW + 1)
    if counted > FEW:
        detail = f"no index serves this query, and there are more than {FEW} items: declare one for its filter and sort"
        raise Failure("invalid", detail, field="args.filter")


async def _found(reader: Reader, query: Query, after: str | None, limit: int) -> Page:
    """A page in the order of an index, or of the IDs."""
    chosen = query.plan
    by_index = chosen is not None and chosen.slot is not None
    order: Path = ("keys", chosen.slot or "") if chosen is not None and by_index else BY_ID
    descending = chosen is not None and chosen.descending
    # No two items have the same key, so the ID that follows it decides nothing.
    place = None if after is None else (after, "" if descending else "~")
    only = {order: None} | dict.fromkeys(SHOWN)
    wanted = Find(
        query.where, limit + 1, order=order, descending=descending, after=place, size=FOUND_SIZE, only=list(only)
    )
    documents = await reader.find(ITEM_TYPE, wanted)
    more = len(documents) > limit or sum(document.size for document in documents) >= FOUND_SIZE
    documents = documents[:limit]
    places = [at(document.state, order) for document in documents]
    return Page(documents, places, places[-1] if places else "", more)


async def _sorted(reader: Reader, query: Query, after: str | None, limit: int) -> Page:
    """A page in an order that no index gives: the few items are sorted here, by their keys."""
    paths = [(DATA, *map(values.escape, field.path)) for field in query.sort]
    found = await reader.find(ITEM_TYPE, Find(query.where, FEW, order=BY_ID, only=[BY_ID, *paths]))
    places = sorted((_key(document, query.sort, paths), document.id) for document in found)
    wanted = [place for place in places if after is None or place[0] > after]
    documents = await reader.read(ITEM_TYPE, [id for _, id in wanted[:limit]])
    shown = [
        (documents[id], place)
        for place, id in wanted[:limit]
        if id in documents and matches(query.where, documents[id].state)
    ]
    last = wanted[:limit][-1][0] if wanted else ""
    return Page([document for document, _ in shown], [place for _, place in shown], last, len(wanted) > limit)


def _key(document: Document, sort: list[Field], paths: list[Path]) -> str:
    values = [(at(document.state, path), field.descending) for path, field in zip(paths, sort, strict=True)]
    return encode_key(values) + str(at(document.state, BY_ID))


def _item(document: Document, fields: list[Path] | None) -> Item:
    state = msgspec.convert(document.state, ItemState)
    data = values.to_json(state.data) if fields is None else project(values.decode(state.data), fields)
    return show(state, document.version, data)


def _fitting(items: list[bytes]) -> int:
    """How many of the items fit into one answer; at least one."""
    size = 0
    for count, item in enumerate(items):
        size += len(item)
        if count and size > ANSWER_SIZE:
            return count
    return len(items)
