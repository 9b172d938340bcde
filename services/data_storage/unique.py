"""The arbiter of one value of a unique field, which at most one item of a collection may hold.

There is one object per value. Its ID is a hash of the collection, the field and the value. A unique
index can't do this, because all items share one MongoDB collection, which can have at most 64 indexes
and may be sharded by another key.

Promise: at most one item of a collection holds the value, whichever writes run concurrently and
wherever a process dies. An item reserves the value before its commit. When another item wants the
value, this object asks the present holder. It first reads the holder's committed state, which suffices
if that has the value. Otherwise it calls the holder, whose turn decides whatever is still uncommitted.
A write that died after its reservation therefore keeps no value, and no clock is involved. The holder
may itself be waiting for this object, so the call has a time limit, after which the other item may retry.

An item releases a value by a tell with its version. A late tell, which arrives after the item has taken
the value again, changes nothing. A turn that is refused another value cancels its reservation by naming
its attempt. The cancellation has no effect if the item has reserved the value again since.
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
# Seconds that the holder may take to answer.
HOLDER_TIMEOUT = 1.0


class UniqueState(msgspec.Struct):
    """The holder of the value, by its object's ID, and the version in which it has the value.

    `attempt` is the attempt that reserved the value; empty once the holder has reserved it again.
    """

    holder: str = ""
    version: int = 0
    attempt: str = ""


def unique_id(incarnation: str, path: str, data: Any) -> str | None:
    """Return the object ID for the value at a path in some data.

    Returns None for null or a missing value, which any number of items may have.
    """
    value = at(data, split(path))
    if value is MISSING or value is None:
        return None
    text = msgspec.json.encode(_canonical(value), order="sorted")
    return hashlib.sha256(b"\0".join((incarnation.encode(), path.encode(), text))).hexdigest()[:40]


def unique_ids(incarnation: str, paths: list[str], data: Any) -> dict[str, str]:
    """Return the paths of unique values in some data, by the values' object IDs."""
    found = {unique_id(incarnation, path, data): path for path in paths}
    return {id: path for id, path in found.items() if id is not None}


class UniqueDO(BaseDurableObject[UniqueState], type=TYPE, management="read_only", internal=True):
    """One value of a unique field of a collection, and the item that holds it."""

    @command(allow=services())
    async def reserve(self, item: str, version: int, attempt: str) -> None:
        """Reserve the value for an item's next version. Raises `exists` if another item holds it."""
        holder = self.state.holder
        if holder == item:
            # A turn that creates an object assumes version 1 until it has seen the object, so `version` may be old.
            self.state = UniqueState(item, max(version, self.state.version))
            return
        if holder and await self._is_held_by(holder):
            raise Failure("exists", "another item has this value")
        self.state = UniqueState(item, version, attempt)

    @command(allow=services())
    async def cancel(self, item: str, attempt: str) -> None:
        """Undo the reservation of an attempt, unless the item has reserved the value again since."""
        if (self.state.holder, self.state.attempt) == (item, attempt):
            await self.delete()

    @command(allow=services())
    async def release(self, item: str, version: int) -> None:
        """Release the value, if the item reserved it before this version."""
        if self.state.holder in ("", item) and self.state.version < version:
            await self.delete()

    async def _is_held_by(self, holder: str) -> bool:
        if await self.ask(ITEM_TYPE, HELD, item=holder, unique=self.id):
            return True
        try:
            async with asyncio.timeout(HOLDER_TIMEOUT):
                return bool(await self.call(ITEM_TYPE, holder, "holds", unique=self.id))
        except TimeoutError:
            raise Failure("unavailable", "the item that may hold this value did not answer in time") from None
        except Failure as failure:
            if failure.code != "not-found":
                raise
            return False


def _canonical(value: Any) -> Any:
    """Return one spelling for all equal values: 1.0 becomes 1, as queries treat it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value
