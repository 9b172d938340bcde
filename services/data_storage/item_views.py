"""The views of items' committed states that only this service queries."""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import ITEM_TYPE
from aidevos.contracts.errors import Failure
from aidevos.queries import And, Compare, Condition, Find, Not, Reader

from .item_state import ItemState, holds, load_data
from .terms import compile_schema

HELD = "held"
EXPIRED = "expired"
MEMBERS = "members"
OFFENDERS = "offenders"
STEP = 100
PAGE_SIZE = 8 * 1024 * 1024


class HeldArgs(msgspec.Struct, forbid_unknown_fields=True):
    item: str
    unique: str


class ExpiredArgs(msgspec.Struct, forbid_unknown_fields=True):
    limit: int


class MembersArgs(msgspec.Struct, forbid_unknown_fields=True):
    incarnation: str
    after: str = ""


class OffendersArgs(msgspec.Struct, forbid_unknown_fields=True):
    incarnation: str
    schema: str
    after: str = ""


class Member(msgspec.Struct):
    """An item of a collection: the item's ID and its object's ID."""

    item: str
    object: str


class Offender(msgspec.Struct):
    """An item that breaks a proposed change of its collection: the field and the reason."""

    id: str
    field: str
    detail: str


class Offenders(msgspec.Struct):
    """The offenders among one page of items. `next` is the last item checked, or None after the last page."""

    offenders: list[Offender]
    next: str | None


async def answer_held(reader: Reader, args: HeldArgs) -> bool:
    """Return True if an item, given by its object's ID, holds a value of a unique field."""
    found = (await reader.read(ITEM_TYPE, [args.item])).get(args.item)
    return found is not None and holds(msgspec.convert(found.state, ItemState), args.unique, reader.now)


async def answer_expired(reader: Reader, args: ExpiredArgs) -> list[str]:
    """Return the object IDs of expired items, the first to expire first."""
    where = Compare(("expires_at",), "lte", reader.now)
    found = await reader.find(ITEM_TYPE, Find(where, args.limit, order=("expires_at",), only=()))
    return [document.id for document in found]


async def answer_members(reader: Reader, args: MembersArgs) -> list[Member]:
    """Return the next page of a collection's items, ordered by their IDs."""
    states = await _page(reader, args.incarnation, args.after, STEP)
    return [Member(state.item, id) for id, state in states]


async def answer_offenders(reader: Reader, args: OffendersArgs) -> Offenders:
    """Return the items of a collection's next page that break a schema."""
    offenders: list[Offender] = []
    schema = compile_schema(args.schema)
    states = await _page(reader, args.incarnation, args.after, STEP)
    for _, state in states:
        try:
            schema.check(load_data(state), "data")
        except Failure as failure:
            offenders.append(Offender(state.item, failure.field or "data", failure.detail))
    return Offenders(offenders, states[-1][1].item if states else None)


async def _page(reader: Reader, incarnation: str, after: str, limit: int) -> list[tuple[str, ItemState]]:
    where: tuple[Condition, ...] = (
        Compare(("incarnation",), "eq", incarnation),
        Compare(("item",), "gt", after),
        Not(Compare(("removed",), "eq", True)),
    )
    found = await reader.find(ITEM_TYPE, Find(And(where), limit, order=("item",), size=PAGE_SIZE))
    return [(document.id, msgspec.convert(document.state, ItemState)) for document in found]
