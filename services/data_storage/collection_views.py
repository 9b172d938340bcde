"""What is asked of collections' committed states."""

from __future__ import annotations

import asyncio

import msgspec

from aidevos.contracts.data import (
    COLLECTION_TYPE,
    ITEM_TYPE,
    CollectionEntry,
    CollectionName,
    CollectionPage,
    Visibility,
    VisibilityArgs,
    VisibleCollections,
)
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import LIST_LIMIT
from aidevos.durable.clock import rfc3339, timestamp
from aidevos.durable.reader import Reader
from aidevos.durable.store.port import Document, Find
from services.data_storage import access
from services.data_storage.collection_state import CollectionState, terms_of
from services.data_storage.terms import Terms
from services.data_storage.visibility import known_collections, readable_items, visibility

COUNTS_AT_ONCE = 8


class TermsArgs(msgspec.Struct, forbid_unknown_fields=True):
    name: CollectionName


async def answer_terms(reader: Reader, args: TermsArgs) -> Terms | None:
    """The terms in force; None where there is no such collection."""
    found = (await reader.read(COLLECTION_TYPE, [args.name])).get(args.name)
    return terms_of(args.name, msgspec.convert(found.state, CollectionState), reader.now) if found else None


async def answer_visibility(reader: Reader, args: VisibilityArgs) -> Visibility:
    """Which items of a collection the caller may read."""
    return visibility(await answer_terms(reader, TermsArgs(args.collection)), reader.caller)


async def answer_visible(reader: Reader, args: VisibleCollections) -> CollectionPage:
    """The collections that the caller may know of, by their names."""
    if not 1 <= args.limit <= LIST_LIMIT:
        raise Failure("invalid", f"limit is from 1 to {LIST_LIMIT}", field="args.limit")
    where = known_collections(reader.caller)
    after = None if args.cursor is None else (None, args.cursor)
    found = await reader.find(COLLECTION_TYPE, Find(where, args.limit + 1, after=after))
    counting = asyncio.Semaphore(COUNTS_AT_ONCE)
    entries = await asyncio.gather(*(_entry(reader, document, counting) for document in found[: args.limit]))
    more = len(found) > args.limit
    return CollectionPage(
        items=[entry for entry in entries if entry is not None],
        next_cursor=found[args.limit - 1].id if more else None,
    )


async def _entry(reader: Reader, document: Document, counting: asyncio.Semaphore) -> CollectionEntry | None:
    state = msgspec.convert(document.state, CollectionState)
    rules = state.config.rules
    if not access.knows(rules, reader.caller, state.owner, collection=document.id):
        return None
    async with counting:
        where = readable_items(rules, document.id, state.incarnation, reader.caller, reader.now)
        count = await reader.count(ITEM_TYPE, where)
    return CollectionEntry(
        name=document.id,
        owner=state.owner,
        count=count,
        version=document.version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )
