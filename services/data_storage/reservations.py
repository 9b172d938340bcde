"""What an item does to have the values of its unique fields, in its turn.

Promise: a turn that is refused one value gives those back that it has just taken, so nobody waits for
what nobody has. Where it dies before, `unique` finds that out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aidevos import BaseDurableObject, Failure, new_id

from . import unique

ItemObject = BaseDurableObject[Any]


async def take(item: ItemObject, wanted: dict[str, str], field: str, version: int) -> None:
    """Take values, each with its path, that the item is about to have in this version; `exists` if another
    item has one. In one order for every item, so that no two wait for each other."""
    attempt, taken = new_id(), list[str]()
    for id in sorted(wanted):
        try:
            await item.call(unique.TYPE, id, "reserve", item=item.id, version=version, attempt=attempt)
        except Failure as failure:
            if failure.code != "exists":
                raise
            await asyncio.gather(
                *(item.call(unique.TYPE, back, "cancel", item=item.id, attempt=attempt) for back in taken)
            )
            field = f"{field}.{wanted[id]}"
            raise Failure("exists", "another item has this value of a unique field", field=field) from None
        taken.append(id)


def release(item: ItemObject, ids: Iterable[str], version: int) -> None:
    """Give values up with the commit of this turn, which makes this version."""
    for id in ids:
        item.tell(unique.TYPE, id, "release", item=item.id, version=version)
