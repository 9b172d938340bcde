"""The indexes of a collection: the assignment of slots, and the filling of new indexes.

All items of all collections are in one MongoDB collection, which can have at most 64 indexes. There are
therefore 16 slots. Each slot has one MongoDB index over the collection's incarnation and a key that the
item's turn writes. Each collection assigns its own declared paths to the slots.

Promise: a query uses a slot only when every item of the collection has its key there. Existing items
are rewritten in the background, after every turn under older terms has been committed or has failed.
Until then the index is written but not read.
"""

from __future__ import annotations

import asyncio

import msgspec

from aidevos import BaseDurableObject, Failure, command, services
from aidevos.contracts.data import COLLECTION_TYPE, ITEM_TYPE, MAX_INDEXES

from .item_views import MEMBERS, Member
from .terms import SETTLED, Index

TYPE = "indexer"
PAUSE = 2.0


def assign(slots: dict[str, Index], wanted: list[list[str]], *, complete: bool) -> dict[str, Index]:
    """Return the wanted indexes by slot. Existing indexes keep their slots, and new ones get free slots."""
    declared = dict.fromkeys(tuple(paths) for paths in wanted)
    kept = {slot: index for slot, index in slots.items() if index.paths in declared}
    assigned = {index.paths for index in kept.values()}
    free = (slot for slot in map(str, range(MAX_INDEXES)) if slot not in kept)
    new = [paths for paths in declared if paths not in assigned]
    return kept | {slot: Index(paths, complete) for slot, paths in zip(free, new, strict=False)}


class IndexerState(msgspec.Struct):
    """The progress of filling. `begun` is in seconds since the epoch; `after` is the last item rewritten."""

    collection: str = ""
    indexes: dict[str, Index] = {}
    round: int = 0
    begun: float = 0.0
    after: str = ""


class IndexerDO(BaseDurableObject[IndexerState], type=TYPE, management="read_only", internal=True):
    """Fills new indexes of a collection. Its ID is the collection's incarnation."""

    @command(allow=services())
    async def begin(self, collection: str, indexes: dict[str, Index]) -> None:
        """Start a new round, which fills these indexes for all items."""
        self.state = IndexerState(collection, indexes, self.state.round + 1, self.now)
        self._tell_next_step()

    @command(allow=services())
    async def step(self, round: int) -> None:
        """Rewrite the next items. Before all turns under older terms have settled, only wait."""
        state = self.state
        if round != state.round:
            raise Failure("conflict", "a newer round has begun")
        if self.now < state.begun + SETTLED:
            await asyncio.sleep(PAUSE)
            self._tell_next_step()
            return
        members = msgspec.convert(
            await self.ask(ITEM_TYPE, MEMBERS, incarnation=self.id, after=state.after), list[Member]
        )
        if not members:
            self.tell(COLLECTION_TYPE, state.collection, "indexed", incarnation=self.id, indexes=state.indexes)
            await self.delete()
            return
        await asyncio.gather(*(self._rekey(member) for member in members))
        state.after = members[-1].item
        self._tell_next_step()

    def _tell_next_step(self) -> None:
        self.tell(TYPE, self.id, "step", round=self.state.round)

    async def _rekey(self, member: Member) -> None:
        try:
            await self.call(ITEM_TYPE, member.object, "rekey")
        except Failure as failure:
            if failure.code != "not-found":
                raise
