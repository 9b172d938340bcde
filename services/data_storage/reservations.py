"""The reservation of unique values in an item's turn.

Promise: a turn that is refused one value cancels the reservations that it has just made, so that no
other item is refused a value that none holds. If the turn dies before that, `unique` detects it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aidevos import BaseDurableObject, Failure, new_id

from . import unique

ItemObject = BaseDurableObject[Any]


async def reserve(item: ItemObject, wanted: dict[str, str], field: str, version: int) -> None:
    """Reserve values for an item's next version. `wanted` maps the values' object IDs to their paths.

    Raises `exists`, with the path below `field`, if another item holds a value. All items reserve in the
    same order, so that no two wait for each other.
    """
    attempt, reserved = new_id(), list[str]()
    for id in sorted(wanted):
        try:
            await item.call(unique.TYPE, id, "reserve", item=item.id, version=version, attempt=attempt)
        except Failure as failure:
            if failure.code != "exists":
                raise
            await asyncio.gather(
                *(item.call(unique.TYPE, other, "cancel", item=item.id, attempt=attempt) for other in reserved)
            )
            field = f"{field}.{wanted[id]}"
            raise Failure("exists", "another item has this value of a unique field", field=field) from None
        reserved.append(id)


def release(item: ItemObject, ids: Iterable[str], version: int) -> None:
    """Release values with the commit of this turn, which creates this version."""
    for id in ids:
        item.tell(unique.TYPE, id, "release", item=item.id, version=version)
