"""The object types of the running fleet, as their hosts announce them in the key-value bucket `types`.

The bucket is watched, so a type that joins is known within moments. After every reconnect the watch
starts anew and replaces all that was known, since a watch may have died with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.kv import KeyValue

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import TypeDescription
from aidevos.contracts.subjects import TYPES_BUCKET, is_type

RETRY_AFTER = 0.5
CHECK_EVERY = 1.0

log = logging.getLogger(__name__)


class Catalogue:
    """The known types; `generation` grows with every change."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._types: dict[str, TypeDescription] = {}
        self._loaded = asyncio.Event()
        self.generation = 0

    @property
    def names(self) -> list[str]:
        return sorted(self._types)

    @property
    def descriptions(self) -> list[TypeDescription]:
        return [self._types[name] for name in self.names]

    def check(self, type: str) -> None:
        """Raises `unknown-type`, naming the known ones."""
        if type not in self._types:
            known = ", ".join(self.names) or "none yet"
            raise Failure("unknown-type", f"no such type of object; known are: {known}", field="type")

    async def loaded(self) -> None:
        """Return once the bucket has been read."""
        await self._loaded.wait()

    async def follow(self) -> None:
        """Keep up with the bucket until cancelled."""
        while True:
            try:
                await self._watch()
            except NatsError as error:
                log.warning("the announced types can't be read: %r", error)
                await asyncio.sleep(RETRY_AFTER)

    async def _watch(self) -> None:
        reconnects = self._connection.stats["reconnects"]
        bucket = await self._connection.jetstream().key_value(TYPES_BUCKET)
        watcher = await bucket.watchall()
        found: dict[str, TypeDescription] = {}
        try:
            while self._connection.stats["reconnects"] == reconnects:
                try:
                    entry = await watcher.updates(timeout=CHECK_EVERY)  # type: ignore[no-untyped-call]
                except NatsTimeout:
                    continue
                if entry is None:
                    self._types = found
                    self._loaded.set()
                else:
                    _apply(entry, found)
                self.generation += 1
        finally:
            with contextlib.suppress(NatsError):
                await watcher.stop()  # type: ignore[no-untyped-call]


def _apply(entry: KeyValue.Entry, types: dict[str, TypeDescription]) -> None:
    if entry.operation is not None:
        types.pop(entry.key, None)
        return
    try:
        described = msgspec.json.decode(entry.value or b"", type=TypeDescription)
    except msgspec.DecodeError as error:
        log.warning("the announcement of the type %r can't be read: %s", entry.key, error)
        return
    if is_type(entry.key) and described.type == entry.key:
        types[entry.key] = described
