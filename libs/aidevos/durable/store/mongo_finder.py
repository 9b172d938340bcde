"""Finds documents in MongoDB.

Few and small documents come in one reply to the event loop itself (`mongo_channels`). Others take a cursor of the
driver, and with it one of its threads: half of these are left to claims and to whatever else must not wait. Documents
are decoded in slices, between which the event loop turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from bson.raw_bson import RawBSONDocument
from motor.frameworks.asyncio import max_workers
from pymongo.errors import ExecutionTimeout, PyMongoError

from aidevos.durable.base.slices import Slices
from aidevos.durable.store import codec
from aidevos.durable.store.mongo_channels import Channels
from aidevos.durable.store.mongo_moment import at_moment, explained_moments, parse_moment, show_moment
from aidevos.durable.store.port import FEW, StoreError, count_up_to, search_too_slow

T = TypeVar("T")
# Milliseconds after which MongoDB gives up on a read without a limit of its own.
READ_TIMEOUT = 10_000
# A reply of at most this many bytes is decoded in one step, which takes a fraction of a millisecond.
AT_ONCE = 64 * 1024
# Reads of few documents that run at once. The driver has 100 connections, which commits need as well.
READS = 32
# A document and its size in bytes: decoded, and as it was found, which in a large reply is still encoded.
Decoded: TypeAlias = tuple[dict[str, Any], int]
Found: TypeAlias = tuple[dict[str, Any] | bytes, int]


class MongoFinder:
    """Finds documents in one database, and returns each with its size in bytes."""

    def __init__(self, database: Any, channels: Channels) -> None:
        self._database = database
        self._channels = channels
        self._few = asyncio.Semaphore(READS)
        self._many = asyncio.Semaphore(max(1, max_workers // 2))
        self._slices = Slices()

    async def find(
        self,
        name: str,
        wanted: dict[str, Any],
        limit: int,
        *,
        within: int | None = None,
        size: int | None = None,
        waits: bool = True,
        **options: Any,
    ) -> list[Decoded]:
        """Return documents of a collection, at most up to the one that makes them reach `size` bytes.

        With `waits`, the reads that need a thread wait for each other. `within` is the time limit in milliseconds.
        """
        options["filter"] = wanted
        found = None
        if limit <= FEW:
            async with self._few:
                found = await run(lambda: self._find_few(name, limit, within, size, options), within)
        if found is None:
            take = self.run_apart if waits else run
            found = await take(lambda: self._find_many(name, limit, within, size, options), within)
        return await self._decode(found)

    async def find_at(
        self, name: str, limit: int, size: int, moment: str | None, **options: Any
    ) -> tuple[list[Decoded], str]:
        """Return documents as of a moment, and that moment. By default, it is now."""
        at = None if moment is None else parse_moment(moment)
        command = {"find": name, **options, "limit": limit, "batchSize": FEW, "maxTimeMS": READ_TIMEOUT}

        async def read() -> tuple[list[Found], str]:
            shows = at or (await self._database.command("ping"))["operationTime"]
            with explained_moments():
                # The cursor decodes what follows its first batch with the options of the database.
                cursor = await self._database.with_options(codec_options=codec.RAW).cursor_command(
                    command | at_moment(shows), codec_options=codec.RAW
                )
                return _encoded(await _read_up_to(size, cursor.batch_size(FEW), limit)), show_moment(shows)

        found, shown_at = await self.run_apart(read, READ_TIMEOUT)
        return await self._decode(_up_to(size, found)), shown_at

    async def run_apart(self, operation: Callable[[], Awaitable[T]], within: int | None = None) -> T:
        """Run an operation that may wait for others like it, but never holds up commits and claims."""
        async with self._many:
            return await run(operation, within)

    async def _find_few(
        self, name: str, limit: int, within: int | None, size: int | None, options: dict[str, Any]
    ) -> list[Found] | None:
        """Return all documents if they fit into one reply, which avoids the cost of a cursor. Otherwise return None."""
        command = {"find": name, **options, "limit": limit, "maxTimeMS": within or READ_TIMEOUT}
        command["readConcern"] = self._database.read_concern.document
        small, length = min(AT_ONCE, size or AT_ONCE), 0

        def decode(reply: bytes) -> Any:
            nonlocal length
            length = len(reply)
            return codec.decode(reply) if length <= small else RawBSONDocument(reply, codec.RAW)

        cursor = (await self._channels.command(command, decode))["cursor"]
        documents = cursor["firstBatch"]
        if cursor["id"]:
            await self._channels.command({"killCursors": name, "cursors": [cursor["id"]]})
            return None
        if length > small:
            return _up_to(size, _encoded(documents))
        each = length // max(1, len(documents))
        return [(document, each) for document in documents]

    async def _find_many(
        self, name: str, limit: int, within: int | None, size: int | None, options: dict[str, Any]
    ) -> list[Found]:
        cursor = self._database.get_collection(name, codec_options=codec.RAW).find(
            limit=limit, max_time_ms=within or READ_TIMEOUT, **options
        )
        documents = cursor.to_list(limit) if size is None else _read_up_to(size, cursor.batch_size(FEW), limit)
        return _up_to(size, _encoded(await documents))

    async def _decode(self, found: list[Found]) -> list[Decoded]:
        if not found or isinstance(found[0][0], dict):
            return found  # type: ignore[return-value]
        return await self._slices.map(_decode, found)


async def run(operation: Callable[[], Awaitable[T]], within: int | None = None) -> T:
    """Run an operation and translate its errors. `within` is its time limit in milliseconds, if it has one."""
    try:
        return await operation()
    except PyMongoError as error:
        if within is not None and isinstance(error, ExecutionTimeout):
            raise search_too_slow(within) from error
        raise StoreError(f"MongoDB: {error}") from error


async def _read_up_to(size: int, cursor: Any, limit: int) -> list[Any]:
    """Read documents in chunks until they reach `size` bytes, there are `limit` of them, or the cursor ends."""
    found: list[Any] = []
    total = 0
    while total < size and len(found) < limit:
        more = await cursor.to_list(length=min(FEW, limit - len(found)))
        if not more:
            break
        total += sum(len(document.raw) for document in more)
        found += more
        more.clear()
    await cursor.close()
    return found


def _encoded(documents: list[RawBSONDocument]) -> list[Found]:
    """Return documents that are still encoded, and drop them from the driver's list.

    The driver's cursor is in a reference cycle and would keep them until the garbage collector runs.
    """
    encoded: list[Found] = [(bytes(document.raw), len(document.raw)) for document in documents]
    documents.clear()
    return encoded


def _up_to(size: int | None, found: list[Found]) -> list[Found]:
    """Return documents up to the one that makes them reach `size` bytes."""
    return found[: count_up_to(size, (length for _, length in found))]


def _decode(found: Found) -> tuple[dict[str, Any], int]:
    document, size = found
    return document if isinstance(document, dict) else codec.decode(document), size
