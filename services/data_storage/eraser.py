"""The background erasure of all items and versions of a collection, a user or an item.

Promise: the erasure runs in bounded steps. Each step tells the next one in its own commit, so a process
that dies halfway repeats at most one step. Items and versions that are written meanwhile are erased too.
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
# The field that follows the value in the index, if it is not the ID.
ORDERS: dict[tuple[str, str], tuple[str, ...]] = {
    (ITEM_TYPE, "incarnation"): ("item",),
    (VERSION_TYPE, "life"): ("number",),
}
By = Literal["owner", "incarnation", "life"]


class IdsArgs(msgspec.Struct, forbid_unknown_fields=True):
    by: By
    value: str


def make_ids_view(type: str) -> Callable[[Reader, IdsArgs], Awaitable[list[str]]]:
    """Return the view that answers with the IDs of a type's objects to erase, at most one step of them."""

    async def answer(reader: Reader, args: IdsArgs) -> list[str]:
        where = Compare((args.by,), "eq", args.value)
        order = ORDERS.get((type, args.by))
        return [document.id for document in await reader.find(type, Find(where, STEP, order=order, only=()))]

    return answer


class EraserState(msgspec.Struct):
    """The beginning of the erasure in seconds since the epoch, and the number of steps done."""

    begun: float = 0.0
    steps: int = 0


class EraserDO(BaseDurableObject[EraserState], type=ERASER_TYPE, management="read_only", internal=True):
    """Erases all items and versions of a user, an incarnation of a collection, or a life of an item.

    Its ID is that user, incarnation or life.
    """

    @command(allow=services())
    async def erase(self, by: By = "owner") -> None:
        """Erase one step and tell the next one, until no turn can add anything more."""
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
