"""What an item was before: one object for each version that another one has followed.

Promise: a version is kept before the change that follows it is committed, so there is no moment at
which one that was committed is missing. It never changes; keeping it again is harmless.
"""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure, command, query, services
from aidevos.contracts.data import HISTORY_LIMIT, VERSION_TYPE, Version
from aidevos.contracts.times import rfc3339_of
from aidevos.queries import And, Compare, Condition, Find, Reader, View

from .leaving import IDS, IdsArgs, answer_ids

OF = "of"


class VersionState(msgspec.Struct):
    """`life` is that of the item, `number` its version then. `data` is as `values` encodes it."""

    life: str = ""
    incarnation: str = ""
    owner: str = ""
    number: int = 0
    data: Any = None
    author: str = ""
    at: float = 0.0
    removed: bool = False


class OfArgs(msgspec.Struct, forbid_unknown_fields=True):
    life: str
    before: int
    limit: int


async def answer_of(reader: Reader, args: OfArgs) -> list[Version]:
    """The versions of an item below a number, the latest first."""
    where: tuple[Condition, ...] = (Compare(("life",), "eq", args.life), Compare(("number",), "lt", args.before))
    limit = min(args.limit, HISTORY_LIMIT + 1)
    found = await reader.find(VERSION_TYPE, Find(And(where), limit, order=("number",), descending=True))
    return [entry(msgspec.convert(document.state, VersionState)) for document in found]


def entry(state: VersionState) -> Version:
    """The version as a history shows it."""
    return Version(version=state.number, author=state.author, at=rfc3339_of(state.at), deleted=state.removed)


def version_id(item: str, number: int) -> str:
    return f"{item}-{number}"


class VersionDO(BaseDurableObject[VersionState], type=VERSION_TYPE, management="read_only", internal=True):
    """A version of an item that another one has followed."""

    state_limit = 2 * 1024 * 1024
    views = (View(OF, services(), OfArgs, answer_of), View(IDS, services(), IdsArgs, answer_ids(VERSION_TYPE)))
    indexes = (("life", "number"), ("incarnation",), ("owner",))

    @command(allow=services())
    async def keep(self, version: VersionState) -> None:
        """Keep this version."""
        self.state = version

    @query(allow=services())
    async def show(self, life: str) -> VersionState:
        """The version, if it is of this life of the item."""
        if not life or self.state.life != life:
            raise Failure("not-found", "there is no such version")
        return self.state

    @command(allow=services())
    async def vanish(self, by: str, value: str) -> None:
        """Go, if this still belongs to what goes."""
        if getattr(self.state, by) != value:
            raise Failure("not-found", "there is no such version")
        await self.delete()
