"""The views of collections' committed states."""

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
    CreatableArgs,
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
from aidevos.queries import And, Compare, Condition, Find, Match, Reader

from . import access
from .collection_state import PROJECT, CollectionState, derive_terms
from .membership import resolve_terms
from .terms import Terms
from .visibility import known_collections, readable_items, resolve_visibility

COUNTS_AT_ONCE = 8
# Bytes of stored collections that one page reads.
PAGE_SIZE = 4 * 1024 * 1024


class TermsArgs(msgspec.Struct, forbid_unknown_fields=True):
    name: CollectionName


async def answer_terms(reader: Reader, args: TermsArgs) -> Terms | None:
    """Return the terms in force, or None if the collection doesn't exist."""
    found = (await reader.read(COLLECTION_TYPE, [args.name])).get(args.name)
    return derive_terms(args.name, msgspec.convert(found.state, CollectionState), reader.now) if found else None


async def answer_visible(reader: Reader, args: VisibleCollections, memberships: Memberships) -> CollectionPage:
    """Return one page of the collections that the caller may know of, ordered by name."""
    if not 1 <= args.limit <= LIST_LIMIT:
        raise Failure("invalid", f"the limit must be from 1 to {LIST_LIMIT}", field="args.limit")
    after = None if args.cursor is None else (None, args.cursor)
    where = await _make_condition(reader, args)
    found = await reader.find(COLLECTION_TYPE, Find(where, args.limit + 1, after=after, size=PAGE_SIZE))
    counts = asyncio.Semaphore(COUNTS_AT_ONCE)
    entries = await asyncio.gather(
        *(_load_entry(reader, document, memberships, counts) for document in found[: args.limit])
    )
    more = len(found) > args.limit or sum(document.size for document in found) >= PAGE_SIZE
    return CollectionPage(
        items=[entry for entry in entries if entry is not None],
        next_cursor=found[: args.limit][-1].id if more else None,
    )


async def answer_visibility(reader: Reader, args: VisibilityArgs, memberships: Memberships) -> Visibility:
    """Return the part of a collection that the caller may read: all items, their own, or none."""
    terms = await answer_terms(reader, TermsArgs(args.collection))
    return resolve_visibility(terms and await resolve_terms(reader.caller, terms, memberships, reader), reader.caller)


async def answer_creatable(reader: Reader, args: CreatableArgs, memberships: Memberships) -> None:
    """Raise the failure that `create` of an item would raise because of the caller's rights, if there is one."""
    caller, name = reader.caller, args.collection
    terms = await answer_terms(reader, TermsArgs(name))
    if terms is None and access.may_create_collection(caller, collection=name):
        return
    terms = terms and await resolve_terms(caller, terms, memberships, reader)
    if terms is None:
        raise access.collection_not_found()
    access.check_may_create(terms.rules, caller, terms.owner, collection=name)


async def _load_entry(
    reader: Reader, document: Match, memberships: Memberships, counts: asyncio.Semaphore
) -> CollectionEntry | None:
    state = msgspec.convert(document.state, CollectionState)
    terms = derive_terms(document.id, state, reader.now)
    async with counts:
        terms = terms and await resolve_terms(reader.caller, terms, memberships, reader)
        if terms is None or not access.may_know(terms.rules, reader.caller, terms.owner, collection=document.id):
            return None
        where = readable_items(terms, reader.caller, reader.now)
        return _render(document, state, await reader.count(ITEM_TYPE, where))


async def _make_condition(reader: Reader, args: VisibleCollections) -> Condition:
    project = args.project or reader.caller.project
    if project:
        return And((known_collections(reader.caller, [project]), Compare(PROJECT, "eq", project)))
    if not subjects.is_id(reader.caller.subject) or reader.caller.has(access.MANAGE_COLLECTIONS):
        return known_collections(reader.caller, [])
    return known_collections(reader.caller, await _load_projects(reader, reader.caller.subject))


async def _load_projects(reader: Reader, user: str) -> list[str]:
    """Return the IDs of all projects of which the user is a member."""
    projects: list[str] = []
    while True:
        after = projects[-1] if projects else ""
        page: list[str] = await reader.ask(PROJECT_TYPE, OF_USER, user=user, after=after)
        if not page:
            return projects
        projects += page


def _render(document: Match, state: CollectionState, count: int) -> CollectionEntry:
    return CollectionEntry(
        name=document.id,
        owner=state.owner,
        project=state.config.project,
        count=count,
        version=document.version,
        created_at=rfc3339(timestamp(state.created_at)),
        updated_at=rfc3339(timestamp(state.updated_at)),
    )
