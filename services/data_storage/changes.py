"""A change of a collection that existing items may break: a schema, or fields that become unique.

Promise: when a change is in force, every item that was not let off fits it, and every value of a
unique field is reserved. The change is proposed first, in an object of its own, which is committed:
from then on new writes keep to what was and to what is to be. When no turn goes by older terms any
more, the existing items are looked at. Then the collection takes the change in one commit, or the
proposal is withdrawn. Where the process dies in between, the proposal lapses by its time, and all is
as it was; what was reserved meanwhile binds nobody.

A write whose commit takes longer than `terms.LIFE` and a second, from its look at the terms to the end,
can slip past the look at the existing items.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure, command, services
from aidevos.contracts.data import ITEM_TYPE
from services.data_storage.item_views import MEMBERS, OFFENDERS, Member, Offender, Offenders
from services.data_storage.terms import LIFE

TYPE = "proposal"
MARGIN = 0.2
SHOWN_OFFENDERS = 10


class ProposalState(msgspec.Struct):
    """`until` is in seconds since the epoch."""

    id: str = ""
    incarnation: str = ""
    schema: str = ""
    unique: list[str] = []
    until: float = 0.0


class ProposalDO(BaseDurableObject[ProposalState], type=TYPE, management="read_only"):
    """A change of the collection whose name is the ID, while it is looked at."""

    @command(allow=services())
    async def propose(self, proposal: ProposalState) -> None:
        """Make new writes keep to this too."""
        self.state = proposal

    @command(allow=services())
    async def withdraw(self, proposal: str) -> None:
        """End the proposal, if it is still this one."""
        if self.state.id == proposal:
            await self.delete()


async def check_change(collection: BaseDurableObject[Any], proposal: ProposalState) -> None:
    """In a turn of the collection: propose a change and look at the existing items. Raises `conflict`, with
    the first offenders, when it was withdrawn; else the turn withdraws it with its own commit."""
    await collection.call(TYPE, collection.id, "propose", proposal=proposal)
    await asyncio.sleep(LIFE + MARGIN)
    offenders: list[Offender] = []
    if proposal.schema:
        offenders = await _break_schema(collection, proposal)
    if proposal.unique and not offenders:
        offenders = await _have_same_value(collection, proposal)
    if offenders:
        await collection.call(TYPE, collection.id, "withdraw", proposal=proposal.id)
        first = offenders[0]
        raise Failure(
            "conflict",
            f"existing items don't fit, the first is {first.id}: {first.detail}",
            field="args.config",
            extra={"offenders": msgspec.to_builtins(offenders[:SHOWN_OFFENDERS])},
        )


async def _break_schema(collection: BaseDurableObject[Any], proposal: ProposalState) -> list[Offender]:
    offenders: list[Offender] = []
    after: str | None = ""
    while after is not None and len(offenders) < SHOWN_OFFENDERS:
        reply = await collection.ask(
            ITEM_TYPE, OFFENDERS, incarnation=proposal.incarnation, schema=proposal.schema, after=after
        )
        page = msgspec.convert(reply, Offenders)
        offenders += page.offenders
        after = page.next
    return offenders


async def _have_same_value(collection: BaseDurableObject[Any], proposal: ProposalState) -> list[Offender]:
    offenders: list[Offender] = []
    after: str = ""
    while len(offenders) < SHOWN_OFFENDERS:
        reply = await collection.ask(ITEM_TYPE, MEMBERS, incarnation=proposal.incarnation, after=after)
        members = msgspec.convert(reply, list[Member])
        if not members:
            break
        found = await asyncio.gather(*(_reserve(collection, proposal, member) for member in members))
        offenders += [offender for offender in found if offender is not None]
        after = members[-1].item
    return offenders


async def _reserve(
    collection: BaseDurableObject[Any], proposal: ProposalState, member: Member
) -> Offender | None:
    wanted = {"incarnation": proposal.incarnation, "paths": proposal.unique}
    try:
        await collection.call(ITEM_TYPE, member.object, "reserve", **wanted)
    except Failure as failure:
        if failure.code == "exists":
            return Offender(id=member.item, field=failure.field or "data", detail=failure.detail)
        if failure.code != "not-found":
            raise
    return None
