"""Queries of a collection: pages of items from committed states, as far as the caller may read them.

Promise: what the caller may not read is asked of nobody, and neither found nor counted. A page follows
the one before in an order that writes don't change: an item that stays where it is comes once.
"""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import ITEM_TYPE, FindItems, Item, ItemPage
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT
from aidevos.durable.reader import Reader
from aidevos.durable.store.condition import Condition, Path
from aidevos.durable.store.port import Document, Find
from services.data_storage import access
from services.data_storage.collection_views import TermsArgs, answer_terms
from services.data_storage.item_state import ItemState, show
from services.data_storage.projection import parse_fields, project
from services.data_storage.terms import Terms, TermsCache
from services.data_storage.visibility import readable_items

# What one answer may have, in bytes: of documents, and of JSON.
FOUND_SIZE = 4 * 1024 * 1024
ANSWER_SIZE = 3 * 1024 * 1024
BY_ID: Path = ("item",)


class Finder:
    """Answers queries; `terms` are those of this process."""

    def __init__(self, terms: TermsCache) -> None:
        self._terms = terms

    async def answer(self, reader: Reader, args: FindItems) -> ItemPage:
        """One page of a collection's items."""
        if not 1 <= args.limit <= LIST_LIMIT:
            raise Failure("invalid", f"limit is from 1 to {LIST_LIMIT}", field="args.limit")
        fields = parse_fields(args.fields, "args.fields")
        terms = await self._known(reader, args.collection)
        where = readable_items(terms.rules, terms.incarnation, reader.caller, reader.now)
        found = await self._find(reader, where, args)
        items = [_shown(document, fields) for document in found[: args.limit]]
        fitting = _fitting(items)
        more = len(found) > fitting or sum(document.size for document in found) >= FOUND_SIZE
        page = ItemPage(items=items[:fitting], next_cursor=items[fitting - 1].id if more else None)
        if args.count:
            page.count = await reader.count(ITEM_TYPE, where)
        return page

    async def _known(self, reader: Reader, collection: str) -> Terms:
        async def fetch() -> Terms | None:
            return await answer_terms(reader, TermsArgs(collection))

        terms = await self._terms.get(collection, fetch)
        if terms is None or not access.knows(terms.rules, reader.caller, terms.owner):
            raise access.no_collection()
        return terms

    async def _find(self, reader: Reader, where: Condition, args: FindItems) -> list[Document]:
        after = None if args.cursor is None else (args.cursor, "~")
        wanted = Find(where, args.limit + 1, order=BY_ID, after=after, size=FOUND_SIZE)
        return await reader.find(ITEM_TYPE, wanted)


def _shown(document: Document, fields: list[Path]) -> Item:
    item = show(msgspec.convert(document.state, ItemState), document.version)
    if fields:
        item.data = project(item.data, fields)
    return item


def _fitting(items: list[Item]) -> int:
    """How many of the items fit into one answer; at least one."""
    size = 0
    for count, item in enumerate(items):
        size += len(msgspec.json.encode(item))
        if count and size > ANSWER_SIZE:
            return count
    return len(items)
