"""What is asked of collections' committed states."""

from __future__ import annotations

import asyncio

import msgspec

from aidevos.contracts import subjects
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
from aidevos.contracts.projects import OF_USER
from aidevos.contracts.projects import TYPE as PROJECT_TYPE
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.projects.memberships import Memberships
from aidevos.queries import And, Compare, Condition, Document, Find, Reader

from . import access
from .collection_state import PROJECT, CollectionState, terms_of
from .membership import terms_for
from .terms import Terms
from .visibility import known_collections, readable_items, visibility

COUNTS_AT_ONCE = 8


class TermsArgs(msgspec.Struct, forbid_unknown_fields=True):
    name: CollectionName


async def answer_terms(reader: Reader, args: TermsArgs) -> Terms | None:
    """The terms in force; None where there is no such collection."""
    found = (await reader.read(COLLECTION_TYPE, [args.name])).get(args.name)
    return terms_of(args.name, msgspec.convert(found.state, CollectionState), reader.now) if found else None


async def answer_visible(reader: Reader, args: VisibleCollections, memberships: Memberships) -> CollectionPage:
    """One page of the collections that the caller may know of, by their names."""
    if not 1 <= args.limit <= LIST_LIMIT:
        raise Failure("invalid", f"limit is from 1 to {LIST_LIMIT}", field="args.limit")
    after = None if args.cursor is None else (None, args.cursor)
    found = await reader.find(COLLECTION_TYPE, Find(await _asked(reader, args), args.limit + 1, after=after))
    at_once = asyncio.Semaphore(COUNTS_AT_ONCE)
    entries = await asyncio.gather(
        *(_entry(reader, document, memberships, at_once) for document in found[: args.limit])
    )
    more = len(found) > args.limit
    return CollectionPage(
        items=[entry for entry in entries if entry is not None],
        next_cursor=found[args.limit - 1].id if more else None,
    )


async def answer_visibility(reader: Reader, args: VisibilityArgs, memberships: Memberships) -> Visibility:
    """Which items of a collection the caller may read."""
    terms = await answer_terms(reader, TermsArgs(args.collection))
    return visibility(terms and await terms_for(reader.caller, terms, memberships, reader), reader.caller)


async def _entry(
    reader: Reader, document: Document, memberships: Memberships, at_once: asyncio.Semaphore
) -> CollectionEntry | None:
    state = msgspec.convert(document.state, CollectionState)
    terms = terms_of(document.id, state, reader.now)
    async with at_once:
        terms = terms and await terms_for(reader.caller, terms, memberships, reader)
        if terms is None or not access.knows(terms.rules, reader.caller, terms.owner, collection=document.id):
            return None
        where = readable_items(terms.rules, document.id, state.incarnation, reader.caller, reader.now)
        return _shown(document, state, await reader.count(ITEM_TYPE, where))


async def _asked(reader: Reader, args: VisibleCollections) -> Condition:
    project = args.project or reader.caller.project
    if project:
        return And((known_collections(reader.caller, [project]), Compare(PROJECT, "eq", project)))
    if not subjects.is_id(reader.caller.subject) or reader.caller.has(access.MANAGE_COLLECTIONS):
        return known_collections(reader.caller, [])
    return known_collections(reader.caller, await _projects_of(reader, reader.caller.subject))


async def _projects_of(reader: Reader, user: str) -> list[str]:
    """All projects of which the user is a member."""
    projects: list[str] = []
    while True:
        after = projects[-1] if projects else ""
        page: list[str] = await reader.ask(PROJECT_TYPE, OF_USER, user=user, after=after)
        if not page:
            return projects
        projects += page


def _shown(document: Document, state: CollectionState, count: int) -> CollectionEntry:
    return CollectionEntry(
        name=document.id,
        owner=state.owner,
        project=state.config.project,
        count=count,
        version=document.version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )
