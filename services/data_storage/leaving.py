"""What goes in the background: the items and versions of a collection, of a user, or of an item.

Promise: it goes in bounded steps, each of which tells the next one in its own commit, so a process
that dies in the middle costs at most one step. What comes while it goes, goes too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from aidevos import BaseDurableObject, Failure, command, services
from aidevos.contracts.data import ERASER_TYPE, ITEM_TYPE, VERSION_TYPE
from aidevos.queries import Compare, Find, Reader

from .terms import SETTLED

IDS = "ids"
STEP = 100
PAUSE = 2.0
# What the indexes have behind the value, where that is not the ID.
ORDERS: dict[tuple[str, str], tuple[str, ...]] = {
    (ITEM_TYPE, "incarnation"): ("item",),
    (VERSION_TYPE, "life"): ("number",),
}
By = Literal["owner", "incarnation", "life"]


class IdsArgs(msgspec.Struct, forbid_unknown_fields=True):
    by: By
    value: str


def answer_ids(type: str) -> Callable[[Reader, IdsArgs], Awaitable[list[str]]]:
    """The view of the IDs of a type's objects that belong to something: one step of them."""

    async def answer(reader: Reader, args: IdsArgs) -> list[str]:
        where = Compare((args.by,), "eq", args.value)
        order = ORDERS.get((type, args.by))
        return [document.id for document in await reader.find(type, Find(where, STEP, order=order))]

    return answer


class EraserState(msgspec.Struct):
    """When it began, in seconds since the epoch, and how many steps it has gone."""

    begun: float = 0.0
    steps: int = 0


class EraserDO(BaseDurableObject[EraserState], type=ERASER_TYPE, management="read_only", internal=True):
    """Erases everything of something, which its ID names: a user, an incarnation of a collection, or a
    life of an item."""

    @command(allow=services())
    async def erase(self, by: By = "owner") -> None:
        """Erase a step of it, and see to the next one, until nothing can come any more."""
        self.state.begun = self.state.begun or self.now
        self.state.steps += 1
        for type in (VERSION_TYPE,) if by == "life" else (ITEM_TYPE, VERSION_TYPE):
            ids = await self.ask(type, IDS, by=by, value=self.id)
            if ids:
                await asyncio.gather(*(self._vanish(type, id, by) for id in ids))
                self.tell(ERASER_TYPE, self.id, "erase", by=by)
                return
        if self.now > self.state.begun + SETTLED:
            await self.delete()
            return
        await asyncio.sleep(PAUSE)
        self.tell(ERASER_TYPE, self.id, "erase", by=by)

    async def _vanish(self, type: str, id: str, by: By) -> None:
        try:
            await self.call(type, id, "vanish", by=by, value=self.id)
        except Failure as failure:
            if failure.code != "not-found":
                raise
