"""Holders: objects, under users' IDs, that bound how many objects of a type one user has.

Promise: no user has more than the limit, even if several are created at once, because an object's place is
reserved before the object is created. A reservation that was never used is freed a minute later, when a
place is needed. Objects that existed before the holder are counted at its first use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgspec

from aidevos.contracts.errors import Failure
from aidevos.durable.objects.declaration import View, command
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.reader import Reader
from aidevos.durable.objects.resources import inject
from aidevos.durable.store.conditions import Compare, Path
from aidevos.durable.store.port import Find
from aidevos.security.permissions import services
from aidevos.settings import Settings

HELD = "held"
STEP = 100
# Seconds after which an object whose place was reserved exists or never will.
SETTLED = 60.0


class HeldArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of the view. `after` is the last ID of the page before."""

    owner: str
    after: str = ""


def held_view(type: str, path: Path) -> View:
    """Return the view of the IDs of a type's objects whose states name their owner at this path.

    The path must be indexed. A page has up to `STEP` IDs, in order.
    """

    async def ids(reader: Reader, args: HeldArgs) -> list[str]:
        after = (None, args.after) if args.after else None
        found = await reader.find(type, Find(Compare(path, "eq", args.owner), STEP, after=after, only=()))
        return [document.id for document in found]

    return View(HELD, services(), HeldArgs, ids)


class HolderState(msgspec.Struct):
    """The time at which each object's place was reserved, in seconds since the epoch."""

    places: dict[str, float] = {}
    is_counted: bool = False


class Holder(BaseDurableObject[HolderState], ABC):
    """The objects that a user holds of the type `held`, which has a `held_view`. Subclasses define the limit."""

    held: ClassVar[str]
    noun: ClassVar[str]
    settings: Settings = inject()

    @property
    @abstractmethod
    def limit(self) -> int:
        """How many objects the user may have."""

    @command(allow=services())
    async def reserve(self, id: str) -> None:
        """Reserve a place. Raises `conflict` if none is left."""
        state = self.state
        if not state.is_counted or self._is_full(id):
            state.places, state.is_counted = await self._count(), True
        if self._is_full(id):
            raise Failure("conflict", f"a user can have at most {self.limit} {self.noun}")
        state.places[id] = self.now

    @command(allow=services())
    async def release(self, id: str) -> None:
        """Free a place."""
        self.state.places.pop(id, None)
        if not self.state.places:
            await self.delete()

    async def list_held(self) -> list[str]:
        """Return the IDs of the user's objects."""
        found: list[str] = []
        page: list[str] | None = None
        while page is None or len(page) == STEP:
            page = await self.ask(self.held, HELD, owner=self.id, after=found[-1] if found else "")
            found += page
        return found

    def _is_full(self, id: str) -> bool:
        return id not in self.state.places and len(self.state.places) >= self.limit

    async def _count(self) -> dict[str, float]:
        """Return the places of the objects that exist or may still be created."""
        places, recent = self.state.places, self.now - SETTLED
        existing: dict[str, Any] = dict.fromkeys(await self.list_held(), 0.0)
        return existing | {id: at for id, at in places.items() if id in existing or at > recent}
