"""A change of a collection that existing items may break: a schema, or fields that become unique.

Promise: when a change is in force, every item that was not let off fits it, and every value of a
unique field is reserved. The change is proposed first, in a commit of its own: from then on new writes
keep to what was and to what is to be. When no turn goes by older terms any more, the existing items
are looked at. Then the collection takes the change in one commit, or withdraws it. Where the process
dies in between, the proposal lapses by its time, and all is as it was; what was reserved meanwhile
binds nobody.

A write whose commit takes longer than that wait, from its look at the terms to the end, can slip past
the look at the existing items.
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
    """In a turn of the collection: the first existing items that a proposed change doesn't fit. The values
    of the others in fields that are to be unique are reserved."""
    offenders: list[Offender] = []
    if proposal.schema:
        offenders = await _break_schema(collection, incarnation, proposal.schema)
    if proposal.unique and not offenders:
        offenders = await _have_same_value(collection, incarnation, proposal.unique)
    return offenders[:SHOWN_OFFENDERS]


def refusal(offenders: list[Offender]) -> Failure:
    """The answer to a change that existing items break."""
    first = offenders[0]
    return Failure(
        "conflict",
        f"existing items don't fit, the first is {first.id}: {first.detail}",
        field="args.config",
        extra={"offenders": msgspec.to_builtins(offenders)},
    )


async def _break_schema(collection: Collection, incarnation: str, schema: str) -> list[Offender]:
    offenders: list[Offender] = []
    after: str | None = ""
    while after is not None and len(offenders) < SHOWN_OFFENDERS:
        reply = await collection.ask(ITEM_TYPE, OFFENDERS, incarnation=incarnation, schema=schema, after=after)
        page = msgspec.convert(reply, Offenders)
        offenders += page.offenders
        after = page.next
    return offenders


async def _have_same_value(collection: Collection, incarnation: str, paths: list[str]) -> list[Offender]:
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
