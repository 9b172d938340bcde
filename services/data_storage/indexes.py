"""Indexes of a collection: which slot is whose, and how a new one is filled.

All items stand in one MongoDB collection, which has at most 64 indexes. So there are 16 slots, each
with one MongoDB index over the collection's incarnation and a key that the item's turn writes. What
a slot means is the collection's own affair: its declared paths.

Promise: a query goes by a slot only when every item of the collection has its key there. Items that
were written before are written again in the background, once whatever was begun by older terms is
committed or has failed; until then the index is written and not read.
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
    """The slots for these indexes: those that are there stay, new ones take what is free."""
    declared = dict.fromkeys(tuple(paths) for paths in wanted)
    kept = {slot: index for slot, index in slots.items() if index.paths in declared}
    there = {index.paths for index in kept.values()}
    free = (slot for slot in map(str, range(MAX_INDEXES)) if slot not in kept)
    new = [paths for paths in declared if paths not in there]
    return kept | {slot: Index(paths, complete) for slot, paths in zip(free, new, strict=False)}


class IndexerState(msgspec.Struct):
    """`begun` is in seconds since the epoch, `after` the last item that was written again."""

    collection: str = ""
    indexes: dict[str, Index] = {}
    round: int = 0
    begun: float = 0.0
    after: str = ""


class IndexerDO(BaseDurableObject[IndexerState], type=TYPE, management="read_only", internal=True):
    """Fills new indexes of the collection whose incarnation is the ID."""

    @command(allow=services())
    async def begin(self, collection: str, indexes: dict[str, Index]) -> None:
        """Begin with all items, for these indexes."""
        self.state = IndexerState(collection, indexes, self.state.round + 1, self.now)
        self._go_on()

    @command(allow=services())
    async def step(self, round: int) -> None:
        """Write the next items again, or wait until the first may be."""
        state = self.state
        if round != state.round:
            raise Failure("conflict", "another round has begun")
        if self.now < state.begun + SETTLED:
            await asyncio.sleep(PAUSE)
            self._go_on()
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
        self._go_on()

    def _go_on(self) -> None:
        self.tell(TYPE, self.id, "step", round=self.state.round)

    async def _rekey(self, member: Member) -> None:
        try:
            await self.call(ITEM_TYPE, member.object, "rekey")
        except Failure as failure:
            if failure.code != "not-found":
                raise
