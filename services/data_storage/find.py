"""Queries of a collection: pages of items from committed states.

Promise: the query itself excludes items that the caller may not read, so they are neither found nor
counted. Each page continues after the end of the previous one, in an order without ties. An item that
keeps its place therefore appears exactly once, whatever is written in the meantime. A query uses an
index or covers few items, and always has a time limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from aidevos.contracts.data import ITEM_TYPE, FindItems
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT
from aidevos.projects.memberships import Memberships
from aidevos.queries import And, Compare, Condition, Find, Match, Path, Reader, at, matches

from . import access, values
from .collection_views import TermsArgs, answer_terms
from .cursors import Cursors, Position
from .filters import parse_fields, parse_filter, parse_sort, to_state_condition
from .item_state import ItemState, load_item, project_shown, show
from .keys import compute_key, encode_key
from .membership import resolve_terms
from .paths import Field
from .plans import Plan, plan
from .terms import Index, Terms, TermsCache
from .visibility import readable_items

# The largest number of items in a collection for queries that no index serves.
MAX_UNINDEXED = 10_000
# Bounds of one answer, in bytes of documents and in bytes of JSON.
FOUND_SIZE = 4 * 1024 * 1024
ANSWER_SIZE = 3 * 1024 * 1024
BY_ID: Path = ("item",)
DATA = "data"
SHOWN = "shown"


class Query(NamedTuple):
    """A parsed and planned query. `where` is its whole condition on an item's state, `paths` are its index's."""

    where: Condition
    sort: Sequence[Field]
    plan: Plan | None
    paths: tuple[str, ...]


class FoundItems(msgspec.Struct, kw_only=True):
    """An `ItemPage` whose items are already encoded."""

    items: list[msgspec.Raw]
    next_cursor: str | None = None
    count: int | msgspec.UnsetType = msgspec.UNSET


class Finder:
    """Answers queries with this process's caches of terms and memberships."""

    def __init__(self, terms: TermsCache, memberships: Memberships, cursors: Cursors) -> None:
        self._terms = terms
        self._memberships = memberships
        self._cursors = cursors

    async def answer(self, reader: Reader, args: FindItems) -> FoundItems:
        """Return one page of a collection's items."""
        if not 1 <= args.limit <= LIST_LIMIT:
            raise Failure("invalid", f"the limit must be from 1 to {LIST_LIMIT}", field="args.limit")
        fields = parse_fields(args.fields, "args.fields") if args.fields else None
        terms = await self._load_terms(reader, args.collection)
        # A cursor is bound to everything that all pages of a query share.
        binding = (terms.incarnation, reader.caller.subject, args.filter, args.sort)
        begin = None if args.cursor is None else self._cursors.decode(args.cursor, *binding)
        query = _plan_query(reader, terms, args, begin)
        after = begin.key if begin is not None else None
        if query.plan is None:
            await _check_count(reader, terms)
        if query.plan is None and query.sort:
            page = await _sort_page(reader, query, after, args.limit)
        else:
            page = await _find_page(reader, query, after, args.limit)
        items = [_show(document, fields) for document in page.documents]
        fitting = _count_fitting(items)
        shown = FoundItems(items=[msgspec.Raw(item) for item in items[:fitting]])
        if page.more or fitting < len(items):
            last = page.place_of(fitting - 1) if fitting < len(items) else page.last()
            slot = query.plan.slot if query.plan is not None else None
            shown.next_cursor = self._cursors.encode(Position(slot, [*query.paths], last, ""), *binding)
        if args.count:
            shown.count = await reader.count(ITEM_TYPE, query.where)
        return shown

    async def _load_terms(self, reader: Reader, collection: str) -> Terms:
        async def fetch() -> Terms | None:
            return await answer_terms(reader, TermsArgs(collection))

        terms = await self._terms.get(collection, fetch)
        terms = terms and await resolve_terms(reader.caller, terms, self._memberships, reader)
        if terms is None or not access.may_know(terms.rules, reader.caller, terms.owner, collection=collection):
            raise access.collection_not_found()
        return terms


async def answer_find(reader: Reader, args: FindItems, finder: Finder) -> FoundItems:
    """Return one page of a collection's items."""
    return await finder.answer(reader, args)


class Page(NamedTuple):
    """Documents in their order.

    `place_of` returns the place in the order of the document with this number, and `last` the last place examined.
    `more` is True if there are documents after it.
    """

    documents: Sequence[Match]
    place_of: Callable[[int], str]
    last: Callable[[], str]
    more: bool


def _plan_query(reader: Reader, terms: Terms, args: FindItems, begin: Position | None) -> Query:
    wanted = parse_filter(args.filter, "args.filter")
    sort = parse_sort(args.sort, "args.sort") if args.sort else ()
    chosen = plan(wanted, sort, terms.indexes if begin is None else _same_index(terms, begin))
    indexed = chosen is not None and chosen.slot is not None
    readable = readable_items(terms, reader.caller, reader.now, indexed=indexed)
    if chosen is None or chosen.slot is None:
        return Query(And((readable, to_state_condition(wanted, DATA))), sort, chosen, ())
    keys = ("keys", chosen.slot)
    low = Compare(keys, "gte", chosen.keys.low, scalar=True)
    high = Compare(keys, "lt", chosen.keys.high, scalar=True)
    where = And((readable, to_state_condition(chosen.residual, DATA), low, high))
    return Query(where, sort, chosen, terms.indexes[chosen.slot].paths)


def _same_index(terms: Terms, begin: Position) -> dict[str, Index]:
    """Return the index that the previous pages have used, by its slot; empty if they used none."""
    if begin.slot is None:
        return {}
    index = terms.indexes.get(begin.slot)
    if index is None or list(index.paths) != begin.index:
        detail = "the index of this query no longer exists; start again without a cursor"
        raise Failure("invalid", detail, field="args.cursor")
    return {begin.slot: index}


async def _check_count(reader: Reader, terms: Terms) -> None:
    """Raise `invalid` if the collection has too many items for a query without an index."""
    where = Compare(("incarnation",), "eq", terms.incarnation)
    if await reader.count(ITEM_TYPE, where, limit=MAX_UNINDEXED + 1) > MAX_UNINDEXED:
        detail = (
            f"no index serves this query, and the collection has more than {MAX_UNINDEXED} items: "
            "declare an index for its filter and sort"
        )
        raise Failure("invalid", detail, field="args.filter")


async def _find_page(reader: Reader, query: Query, after: str | None, limit: int) -> Page:
    """Return a page in the order of an index or of the item IDs."""
    chosen = query.plan
    slot = chosen.slot if chosen is not None else None
    order: Path = BY_ID if slot is None else ("keys", slot)
    descending = chosen is not None and chosen.descending
    # No two items have the same key, so the ID that follows the key doesn't matter.
    place = None if after is None else (after, "" if descending else "~")
    wanted = Find(query.where, limit + 1, order, descending, place, size=FOUND_SIZE, only=((SHOWN,),))
    documents = await reader.find(ITEM_TYPE, wanted)
    if not all(SHOWN in (document.state or ()) for document in documents):
        # Some were written by an earlier version of this service, and have to be rendered.
        documents = await reader.find(ITEM_TYPE, wanted._replace(only=None))
    more = len(documents) > limit or sum(document.size for document in documents) >= FOUND_SIZE
    documents = documents[:limit]

    def place_of(number: int) -> str:
        """Compute the place from the item as it is shown, so that it need not be read for each."""
        item = load_item(_show(documents[number], None))
        return item.id if slot is None else compute_key(query.paths, item.data, item.id)

    return Page(documents, place_of, lambda: place_of(-1) if documents else "", more)


async def _sort_page(reader: Reader, query: Query, after: str | None, limit: int) -> Page:
    """Return a page in an order without an index. The items, which are few, are sorted here by their keys."""
    paths = [(DATA, *map(values.escape, field.path)) for field in query.sort]
    found = await reader.find(ITEM_TYPE, Find(query.where, MAX_UNINDEXED, order=BY_ID, only=[BY_ID, *paths]))
    places = sorted((_sort_key(document, query.sort, paths), document.id) for document in found)
    wanted = [place for place in places if after is None or place[0] > after]
    documents = await reader.read(ITEM_TYPE, [id for _, id in wanted[:limit]])
    shown = [
        (documents[id], place)
        for place, id in wanted[:limit]
        if id in documents and matches(query.where, documents[id].state)
    ]
    last = wanted[:limit][-1][0] if wanted else ""
    return Page([document for document, _ in shown], lambda number: shown[number][1], lambda: last, len(wanted) > limit)


def _sort_key(document: Match, sort: Sequence[Field], paths: list[Path]) -> str:
    values = [(at(document.state, path), field.descending) for path, field in zip(paths, sort, strict=True)]
    return encode_key(values) + str(at(document.state, BY_ID))


def _show(document: Match, fields: list[Path] | None) -> bytes:
    """Return an item in JSON, as it is stored or, with `fields`, only these parts of its data."""
    text: str | None = (document.state or {}).get(SHOWN)
    if text is not None and fields is None:
        return text.encode()
    item = show(msgspec.convert(document.state, ItemState), document.version)
    return bytes(item if fields is None else project_shown(item, fields))


def _count_fitting(items: list[bytes]) -> int:
    """Return the number of items that fit into one answer, at least one."""
    size = 0
    for count, item in enumerate(items):
        size += len(item)
        if count and size > ANSWER_SIZE:
            return count
    return len(items)
