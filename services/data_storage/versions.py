"""The history of an item: one object for each version that has been superseded.

Promise: a version is kept before the change that supersedes it is committed, so no committed version
is ever missing. A kept version never changes, and keeping it again is harmless.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure, command, query, services
from aidevos.contracts.data import HISTORY_LIMIT, VERSION_TYPE, Version
from aidevos.contracts.times import rfc3339_of
from aidevos.queries import And, Compare, Condition, Find, Reader, View

from .eraser import IDS, IdsArgs, make_ids_view

OF = "of"


class VersionState(msgspec.Struct):
    """One version of an item.

    `life` is the item's, `number` its version, and `at` the time of the change in seconds since the
    epoch. `shown` is the whole item in JSON as callers saw it. An earlier version of this service kept only
    its `data` instead, encoded by `values`.
    """

    life: str = ""
    incarnation: str = ""
    owner: str = ""
    number: int = 0
    data: Any = None
    shown: str = ""
    author: str = ""
    at: float = 0.0
    removed: bool = False


class KeptVersion(msgspec.Struct):
    """A version as it is sent: its state, but with the item as JSON instead of its text."""

    state: VersionState
    item: Any = None


# Paths in the state that a history shows.
SHOWN = (("number",), ("author",), ("at",), ("removed",))


class OfArgs(msgspec.Struct, forbid_unknown_fields=True):
    life: str
    before: int
    limit: int


async def answer_history(reader: Reader, args: OfArgs) -> list[Version]:
    """Return the versions of an item before a number, latest first."""
    where: tuple[Condition, ...] = (Compare(("life",), "eq", args.life), Compare(("number",), "lt", args.before))
    limit = min(args.limit, HISTORY_LIMIT + 1)
    found = await reader.find(VERSION_TYPE, Find(And(where), limit, order=("number",), descending=True, only=SHOWN))
    return [show_entry(msgspec.convert(document.state, VersionState)) for document in found]


def show_entry(state: VersionState) -> Version:
    """Return the version as a history shows it."""
    return Version(version=state.number, author=state.author, at=rfc3339_of(state.at), deleted=state.removed)


def pack(state: VersionState) -> KeptVersion:
    """Return a version as it is sent. As a text in JSON, the item could take twice as many bytes."""
    item = msgspec.Raw(state.shown) if state.shown else None
    return KeptVersion(msgspec.structs.replace(state, shown=""), item)


def unpack(version: KeptVersion) -> VersionState:
    """Return the state of a version that was sent."""
    shown = "" if version.item is None else msgspec.json.encode(version.item).decode()
    return msgspec.structs.replace(version.state, shown=shown)


def version_id(item: str, number: int) -> str:
    """Return the object ID of a version of an item, given by the item's object ID."""
    return f"{item}-{number}"


class VersionDO(BaseDurableObject[VersionState], type=VERSION_TYPE, management="read_only", internal=True):
    """A superseded version of an item."""

    state_limit = 2 * 1024 * 1024
    views = (
        View(OF, services(), OfArgs, answer_history),
        View(IDS, services(), IdsArgs, make_ids_view(VERSION_TYPE)),
    )
    indexes = (("life", "number"), ("incarnation",), ("owner",))

    @command(allow=services())
    async def keep(self, version: KeptVersion) -> None:
        """Keep this version."""
        self.state = unpack(version)

    @query(allow=services())
    async def show(self, life: str) -> KeptVersion:
        """Return the version, if it belongs to this life of the item."""
        if not life or self.state.life != life:
            raise Failure("not-found", "this version doesn't exist")
        return pack(self.state)

    @command(allow=services())
    async def vanish(self, by: str, value: str) -> None:
        """Delete the version, if its attribute `by` still has this value."""
        if getattr(self.state, by) != value:
            raise Failure("not-found", "this version doesn't exist")
        await self.delete()
