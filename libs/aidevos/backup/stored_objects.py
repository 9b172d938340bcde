"""Stored objects one by one: what a copy holds of an object, and how it gets into a running fleet.

Promise: an object gets into a fleet by a command of its own, which its host commits. So no host has anything stale in
memory, and no former owner can write over it. Its version goes on, its completion records stay, and nothing that it
wanted to send when it was stored is sent again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from aidevos.backup.outcome import MAX_SHOWN, Outcome
from aidevos.contracts import envelope, objects, subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import StoredObject
from aidevos.durable.client.client import DurableObjectClient

# Objects on their way at once, and the batches in which they are read.
AT_ONCE, BATCH = 64, 200
# Attempts while a host is overloaded, and the pause between them if it names none, in seconds.
ATTEMPTS, PAUSE = 10, 1.0
BUSY = ("overloaded", "rate-limited")


def read_stored(type: str, found: Mapping[str, Any]) -> StoredObject | None:
    """Return the object in a decoded document, or None for a tombstone."""
    if found.get("deleted") is not None or found.get("state") is None:
        return None
    return StoredObject(
        type=type,
        id=found["_id"],
        state=found["state"],
        schema=found.get("schema", 1),
        version=found.get("version", 0),
        project=found.get("project"),
        created_at=found.get("made_at"),
        updated_at=found.get("updated_at"),
        alarms=found.get("alarms") or None,
    )


class Loading:
    """Loads objects of `known` types into a fleet.

    An object that exists is replaced. `on_done` is called after each object.
    """

    def __init__(
        self,
        client: DurableObjectClient,
        known: Collection[str],
        *,
        on_done: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._client = client
        self._known = known
        self._on_done = on_done
        self._counts: Counter[str] = Counter()
        self._failures: list[str] = []

    @property
    def outcome(self) -> Outcome:
        return Outcome(**self._counts, failures=self._failures)

    async def run(self, batches: Iterator[list[StoredObject]]) -> None:
        """Load batches of objects."""
        room = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as loading:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                for each in batch:
                    await room.acquire()
                    loading.create_task(self._load(each, room.release))

    async def _load(self, each: StoredObject, release: Callable[[], None]) -> None:
        try:
            self._counts[await self._send(each)] += 1
            self._on_done(1)
        except Failure as failure:
            self._note(each.object_id, f"{failure.code}: {failure.detail}")
        finally:
            release()

    async def _send(self, each: StoredObject) -> str:
        if not (subjects.is_type(each.type) and subjects.is_id(each.id)):
            raise Failure("invalid", "this is not the type and the ID of an object")
        if each.type not in self._known:
            raise Failure("unknown-type", "the fleet knows no such type; `aidevos types list` shows them")
        subject, payload = subjects.call(each.type, each.id, objects.LOAD), self._encode(each)
        headers = {envelope.CONTENT_TYPE: envelope.MSGPACK}

        async def send() -> str:
            reply = await self._client.request(subject, payload, headers=headers)
            return msgspec.msgpack.decode(reply, type=str)

        return await _while_busy(send)

    def _encode(self, each: StoredObject) -> bytes:
        arguments: dict[str, Any] = {"state": each.state, "schema": each.schema, "on_conflict": "replace"}
        optional = {"project": each.project, "alarms": each.alarms, "created_at": each.created_at}
        given = {name: value for name, value in optional.items() if value is not None}
        return msgspec.msgpack.encode(arguments | given)

    def _note(self, name: str, reason: str) -> None:
        self._counts["failed"] += 1
        self._on_done(1)
        if len(self._failures) < MAX_SHOWN:
            self._failures.append(f"{name}: {reason}")


async def _while_busy(send: Callable[[], Awaitable[str]]) -> str:
    for _ in range(ATTEMPTS - 1):
        try:
            return await send()
        except Failure as failure:
            if failure.code not in BUSY:
                raise
            await asyncio.sleep(failure.retry_after or PAUSE)
    return await send()
