"""What is kept of an item, and what that means; nothing here waits for anything."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from aidevos import Event
from aidevos.contracts.data import Item
from aidevos.contracts.times import rfc3339_of

from . import values


class ItemState(msgspec.Struct, omit_defaults=True):
    """`data` is as `values` encodes it. `incarnation` is that of the collection for which the item was
    made, `life` tells it from another one of its name before it. `keys` are those of the collection's
    indexes, by slot. `reserved` are the values of unique fields that it has. A `removed` item has
    left its versions, and `kept` tells that there are some. Times are in seconds since the epoch."""

    incarnation: str = ""
    collection: str = ""
    item: str = ""
    life: str = ""
    owner: str = ""
    author: str = ""
    data: Any = None
    keys: dict[str, str] = {}
    reserved: list[str] = []
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float | None = None
    removed: bool = False
    kept: bool = False


class Change(Event):
    """A version of an item. `owner` and `incarnation` tell for whom the event is: live streams don't show them."""

    collection: str
    id: str
    version: int
    owner: str
    incarnation: str


class Created(Change):
    """The item is there."""


class Updated(Change):
    """The item has other data."""


class Deleted(Change):
    """The item is gone."""


def is_live(state: ItemState, incarnation: str, now: float, *, removed: bool = False) -> bool:
    """Whether there is the item, in this incarnation of its collection; with `removed` also one that
    was deleted and can be restored."""
    expired = state.expires_at is not None and state.expires_at <= now
    return bool(incarnation) and state.incarnation == incarnation and not expired and (removed or not state.removed)


def holds(state: ItemState, unique: str, now: float) -> bool:
    """Whether the item has this value of a unique field."""
    return is_live(state, state.incarnation, now) and unique in state.reserved


def show(state: ItemState, version: int, data: Any = UNSET) -> Item:
    """The item as it is shown, with `data` in the place of its own where it is given."""
    return Item(
        id=state.item,
        collection=state.collection,
        data=values.decode(state.data) if data is UNSET else data,
        version=version,
        owner=state.owner,
        created_at=rfc3339_of(state.created_at),
        updated_at=rfc3339_of(state.updated_at),
    )
