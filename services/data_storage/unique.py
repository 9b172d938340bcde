"""A value that one item of a collection alone may have: the arbiter of a unique field.

There is an object for each value, whose ID is a hash of collection, field and value. A unique index
could not do this: all items share one MongoDB collection, which has 64 indexes at most and may be
sharded by something else.

Promise: of two items of a collection at most one has the value, however writes run beside each
other and wherever a process dies. An item reserves the value before its commit. Whoever wants it
next makes this object ask the item that has it: first by the item's committed state, which is enough
where it has the value, then in the item's own turn, where whatever was begun is decided. So a write
that died after its reservation keeps no value, and no clock decides. That item may be waiting for this
object itself, so the question has a time limit, after which the other one asks again.

The item gives a value up by a tell, which names its version: one that comes late, after the item has
taken the value again, changes nothing. A turn that was refused another value takes its reservation
back by naming the attempt, unless the item has asked for the value once more since.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec

from aidevos import BaseDurableObject, Failure, command, services
from aidevos.contracts.data import ITEM_TYPE
from aidevos.queries import MISSING, at

from .item_views import HELD
from .paths import split

TYPE = "unique"
# Seconds that an item may take to tell whether it has a value.
DECIDED_WITHIN = 1.0


class UniqueState(msgspec.Struct):
    """The item that has the value or is about to, by its object's ID, and its version then; `attempt` is
    the only one that has asked for it."""

    holder: str = ""
    version: int = 0
    attempt: str = ""


def unique_id(incarnation: str, path: str, data: Any) -> str | None:
    """The ID of the object of the value at a path in some data; None for null and for no value, which
    any number of items may have."""
    value = at(data, split(path))
    if value is MISSING or value is None:
        return None
    text = msgspec.json.encode(_canonical(value), order="sorted")
    return hashlib.sha256(b"\0".join((incarnation.encode(), path.encode(), text))).hexdigest()[:40]


def unique_ids(incarnation: str, paths: list[str], data: Any) -> dict[str, str]:
    """The IDs of the values at these paths, each with its path."""
    found = {unique_id(incarnation, path, data): path for path in paths}
    return {id: path for id, path in found.items() if id is not None}


class UniqueDO(BaseDurableObject[UniqueState], type=TYPE, management="read_only", internal=True):
    """A value of a unique field of a collection, and the item that has it."""

    @command(allow=services())
    async def reserve(self, item: str, version: int, attempt: str) -> None:
        """Keep the value for an item that is about to have it in this version; `exists` if another has it."""
        holder = self.state.holder
        if holder == item:
            # What creates an object takes its version for 1 until it has seen the object.
            self.state = UniqueState(item, max(version, self.state.version))
            return
        if holder and await self._is_held(holder):
            raise Failure("exists", "another item has this value")
        self.state = UniqueState(item, version, attempt)

    @command(allow=services())
    async def cancel(self, item: str, attempt: str) -> None:
        """Undo what an attempt has reserved, if it is the only one of the item."""
        if (self.state.holder, self.state.attempt) == (item, attempt):
            await self.delete()

    @command(allow=services())
    async def release(self, item: str, version: int) -> None:
        """Give the value up, if the item took it before this version."""
        if self.state.holder in ("", item) and self.state.version < version:
            await self.delete()

    async def _is_held(self, holder: str) -> bool:
        if await self.ask(ITEM_TYPE, HELD, item=holder, unique=self.id):
            return True
        try:
            async with asyncio.timeout(DECIDED_WITHIN):
                return bool(await self.call(ITEM_TYPE, holder, "holds", unique=self.id))
        except TimeoutError:
            raise Failure("unavailable", "the item that may have this value doesn't answer") from None
        except Failure as failure:
            if failure.code != "not-found":
                raise
            return False


def _canonical(value: Any) -> Any:
    """Equal values in one spelling: 1.0 is 1, as in a query."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value
