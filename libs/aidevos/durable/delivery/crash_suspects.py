"""Crash suspects: tells that may have killed the process that was applying them.

Promise: a tell that kills its process becomes a dead letter once `CRASHES` such attempts have been counted. If the
owner of a partition has died and had its partitions for less than `SHORT_LIFE`, the next owner suspects every tell that
was in hand. It tries the suspects one at a time. Each attempt is counted durably before it begins, and the count is
taken back when the attempt ends in any way. No tell is therefore blamed for another one that ran concurrently, and
nothing is written while owners and their partitions stay for longer. An owner that got a partition from one
that left in peace suspects nothing, so a tell may kill it once more uncounted.
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
# In seconds; longer than a supervisor waits before it restarts a process that keeps dying.
SHORT_LIFE = 600.0


class CrashSuspects:
    """The suspects of one partition of a type: all tells up to the stream sequence `upto`.

    The bucket's entry `key` holds the number of crashes of each suspect, and `crashes` is its value. All suspects of a
    process are tried under one lock, `alone`.
    """

    def __init__(
        self, bucket: Bucket, alone: asyncio.Lock, key: str = "", upto: int = 0, crashes: dict[str, int] | None = None
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._upto = upto
        self._crashes = crashes or {}
        self._alone = alone

    @asynccontextmanager
    async def attempt(self, sequence: int, key: str) -> AsyncIterator[int]:
        """Guard an attempt at the tell with this stream sequence; yield how many earlier ones killed their process.

        The tell counts as settled if the block doesn't raise. Raises `NatsError` or `TimeoutError` if the attempt
        can't be counted; it must not be made then.
        """
        if sequence > self._upto:
            yield 0
            return
        async with self._alone:
            crashes = self._crashes.get(key, 0)
            await self._write(self._crashes | {key: crashes + 1})
            try:
                yield crashes
                self._crashes.pop(key, None)
            finally:
                with suppress(NatsError, TimeoutError):
                    await self._write(self._crashes)

    async def _write(self, crashes: dict[str, int]) -> None:
        await self._bucket.put(self._key, msgspec.json.encode(crashes))


async def find_suspects(js: JetStreamContext, consumer: str, now: float) -> int:
    """Return the stream sequence up to which the owner of a consumer leaves suspects, or 0 if it leaves none."""
    try:
        last = await js.consumer_info(subjects.TELLS_STREAM, consumer)
    except NotFoundError:
        return 0
    if last.delivered is None or last.created.timestamp() + SHORT_LIFE < now:
        return 0
    return int(last.delivered.stream_seq)


async def load_crash_suspects(
    bucket: Bucket, alone: asyncio.Lock, type: str, partition: int, upto: int
) -> CrashSuspects:
    """Return the suspects of a partition, with the crashes that were counted."""
    if not upto:
        return CrashSuspects(bucket, alone)
    key = f"{type}.{partition}.crashes"
    value, _ = await bucket.get(key)
    crashes = msgspec.json.decode(value, type=dict[str, int]) if value else {}
    return CrashSuspects(bucket, alone, key, upto, crashes)
