"""The stored state of an item, its events and its public view. Nothing here does I/O."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from aidevos import Event
from aidevos.contracts.data import Item
from aidevos.contracts.times import rfc3339_of
from aidevos.queries import Path

from . import values
from .filters import project


class ItemState(msgspec.Struct, omit_defaults=True):
    """The state of one item. Times are in seconds since the epoch.

    `data` is encoded by `values`, for queries. `shown` is the whole item in JSON as callers see it, including its
    version; states of earlier versions of this service lack it. `incarnation` is the one of the collection in which
    the item was created. `life` distinguishes the item from earlier ones of the same name. `keys` maps the slots of
    the collection's indexes to the item's keys. `reserved` has the object IDs of the unique values that the item
    holds. A `removed` item is deleted but can be restored. `kept` is True if earlier versions exist.
    """

    incarnation: str = ""
    collection: str = ""
    item: str = ""
    life: str = ""
    owner: str = ""
    author: str = ""
    data: Any = None
    shown: str = ""
    keys: dict[str, str] = {}
    reserved: list[str] = []
    created_at: float = 0.0
    updated_at: float = 0.0
    expires_at: float | None = None
    removed: bool = False
    kept: bool = False


class Change(Event):
    """A new version of an item.

    `owner` and `incarnation` decide who may receive the event. Live streams don't show them.
    """

    collection: str
    id: str
    version: int
    owner: str
    incarnation: str


class Created(Change):
    """The item was created."""


class Updated(Change):
    """The item's data was changed."""


class Deleted(Change):
    """The item was deleted."""


def is_live(state: ItemState, incarnation: str, now: float, *, removed: bool = False) -> bool:
    """Return True if the item exists in this incarnation of its collection and has not expired.

    With `removed`, a deleted item that can be restored counts as well.
    """
    expired = state.expires_at is not None and state.expires_at <= now
    return bool(incarnation) and state.incarnation == incarnation and not expired and (removed or not state.removed)


def holds(state: ItemState, unique: str, now: float) -> bool:
    """Return True if the item holds this value of a unique field, given by its object's ID."""
    return is_live(state, state.incarnation, now) and unique in state.reserved


class Stored(Protocol):
    """The data of an item, or of a version of it, as stored."""

    @property
    def data(self) -> Any: ...

    @property
    def shown(self) -> str: ...


def show(state: ItemState, version: int) -> msgspec.Raw:
    """Return the item in JSON as callers see it. `version` is its version."""
    return msgspec.Raw(state.shown or render(state, version, values.to_json(state.data)))


def render(state: ItemState, version: int, data: msgspec.Raw) -> str:
    """Encode the item as callers see it, with this version and these data in JSON."""
    item = Item(
        id=state.item,
        collection=state.collection,
        data=data,
        version=version,
        owner=state.owner,
        created_at=rfc3339_of(state.created_at),
        updated_at=rfc3339_of(state.updated_at),
    )
    return msgspec.json.encode(item).decode()


def project_shown(item: msgspec.Raw, fields: list[Path]) -> msgspec.Raw:
    """Return an item with only these parts of its data. Both items are in JSON."""
    shown = load_item(item)
    shown.data = project(shown.data, fields)
    return msgspec.Raw(msgspec.json.encode(shown))


def load_item(shown: bytes | msgspec.Raw) -> Item:
    """Return the item with this JSON."""
    return _item.decode(shown)


def load_data(stored: Stored) -> Any:
    """Return the user's document of an item or of a version of it."""
    return _data.decode(stored.shown).data if stored.shown else values.decode(stored.data)


class _Data(msgspec.Struct):
    data: Any


_item = msgspec.json.Decoder(Item)
_data = msgspec.json.Decoder(_Data)
