"""A change of a collection that existing items may break: a new schema or new unique fields.

Promise: when a change is in force, every item satisfies it, except items that the caller exempted with
`validate="new"`, and every value of a unique field is reserved. The change is first proposed in a commit
of its own. From then on, new writes must satisfy both the old and the new configuration. Once no turn
uses older terms, the existing items are checked. Then the collection applies the change in one commit,
or withdraws it. If the process dies in between, the proposal lapses after its time limit and nothing has
changed; values reserved in the meantime bind no item.

A write can slip past the check of existing items if more time passes between its reading of the terms
and its commit than the collection waits.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure
from aidevos.contracts.data import ITEM_TYPE

from .collection_state import Proposal
from .item_views import MEMBERS, OFFENDERS, Member, Offender, Offenders

SHOWN_OFFENDERS = 10
Collection = BaseDurableObject[Any]


async def find_offenders(collection: Collection, incarnation: str, proposal: Proposal) -> list[Offender]:
    """Return the first existing items that break a proposed change, at most `SHOWN_OFFENDERS`.

    Runs in a turn of the collection. Items that don't break the change reserve their values of the new
    unique fields.
    """
    offenders: list[Offender] = []
    if proposal.schema:
        offenders = await _find_schema_offenders(collection, incarnation, proposal.schema)
    if proposal.unique and not offenders:
        offenders = await _find_duplicates(collection, incarnation, proposal.unique)
    return offenders[:SHOWN_OFFENDERS]


def refuse(offenders: list[Offender]) -> Failure:
    """Return the failure for a change that existing items break."""
    first = offenders[0]
    return Failure(
        "conflict",
        f"existing items break this change, first {first.id}: {first.detail}",
        field="args.config",
        extra={"offenders": msgspec.to_builtins(offenders)},
    )


async def _find_schema_offenders(collection: Collection, incarnation: str, schema: str) -> list[Offender]:
    offenders: list[Offender] = []
    after: str | None = ""
    while after is not None and len(offenders) < SHOWN_OFFENDERS:
        reply = await collection.ask(ITEM_TYPE, OFFENDERS, incarnation=incarnation, schema=schema, after=after)
        page = msgspec.convert(reply, Offenders)
        offenders += page.offenders
        after = page.next
    return offenders


async def _find_duplicates(collection: Collection, incarnation: str, paths: list[str]) -> list[Offender]:
    offenders: list[Offender] = []
    after = ""
    while len(offenders) < SHOWN_OFFENDERS:
        reply = await collection.ask(ITEM_TYPE, MEMBERS, incarnation=incarnation, after=after)
        members = msgspec.convert(reply, list[Member])
        if not members:
            break
        found = await asyncio.gather(*(_reserve(collection, incarnation, paths, member) for member in members))
        offenders += [offender for offender in found if offender is not None]
        after = members[-1].item
    return offenders


async def _reserve(collection: Collection, incarnation: str, paths: list[str], member: Member) -> Offender | None:
    try:
        await collection.call(ITEM_TYPE, member.object, "reserve", incarnation=incarnation, paths=paths)
    except Failure as failure:
        if failure.code == "exists":
            return Offender(id=member.item, field=failure.field or "data", detail=failure.detail)
        if failure.code != "not-found":
            raise
    return None
