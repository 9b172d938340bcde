"""Tells that may have ended the process that was trying them.

Promise: a tell whose attempts end their process becomes a dead letter when `CRASHES` of them have been counted.
When an owner of the type has lived for less than `SHORT_LIFE`, the next one suspects all that it had in hand. It
tries them one at a time, and each attempt is counted, durably, before it begins, and no more once it has come to
an end, whatever that was. So nothing is counted against a tell for what another one has done beside it, and while
owners live longer than that nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from aidevos.contracts import subjects
from aidevos.durable.client.bucket import Bucket

CRASHES = 5
# Seconds: longer than a supervisor waits before it starts anew what dies again and again.
SHORT_LIFE = 600.0


class CrashSuspects:
    """Those of one type: all up to this place in the stream. `key` names in the bucket how many attempts at each
    have ended their process."""

    def __init__(self, bucket: Bucket, key: str = "", upto: int = 0, ended: dict[str, int] | None = None) -> None:
        self._bucket = bucket
        self._key = key
        self._upto = upto
        self._ended = ended or {}
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def attempt(self, sequence: int, key: str) -> AsyncIterator[int]:
        """An attempt at the tell at this place, which is settled if nothing is raised; gives how many before it have
        ended their process. Raises a `NatsError` or `TimeoutError` when it can't be counted, and so may not be made."""
        if sequence > self._upto:
            yield 0
            return
        async with self._alone:
            ended = self._ended.get(key, 0)
            await self._write(self._ended | {key: ended + 1})
            try:
                yield ended
                self._ended.pop(key, None)
            finally:
                with suppress(NatsError, TimeoutError):
                    await self._write(self._ended)

    async def _write(self, ended: dict[str, int]) -> None:
        await self._bucket.put(self._key, msgspec.json.encode(ended))


async def find_crash_suspects(js: JetStreamContext, bucket: Bucket, type: str, now: float) -> CrashSuspects:
    """What the last owner of a type has left; to be asked before its consumer is deleted."""
    try:
        last = await js.consumer_info(subjects.TELLS_STREAM, type)
    except NotFoundError:
        return CrashSuspects(bucket)
    if last.delivered is None or last.created.timestamp() + SHORT_LIFE < now:
        return CrashSuspects(bucket)
    # No type's name has a dot.
    key = f"{type}.crashes"
    value, _ = await bucket.get(key)
    ended = msgspec.json.decode(value, type=dict[str, int]) if value else {}
    return CrashSuspects(bucket, key, last.delivered.stream_seq, ended)
