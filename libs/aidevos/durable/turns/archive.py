"""Completion records outside their objects' documents: the older ones, where many gather.

Promise: a record is in the archive before it leaves the document, and a look-up that began before
it left counts for nothing: each move starts a new generation, and a request that was looked up in
an earlier one is looked up again. Objects that have moved no record are never looked up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aidevos.contracts.errors import Failure
from aidevos.contracts.times import timestamp
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.store.port import Store, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.headers import RequestKey
from aidevos.durable.turns.request import Request

log = logging.getLogger(__name__)
# The type and the ID of an object, and the name of a record.
RecordKey = tuple[str, str, str]


class ReplyArchive:
    """The archive as one process uses it. `discard` forgets an activation whose records can't be looked up."""

    def __init__(self, store: Store, discard: Callable[[Activation], None]) -> None:
        self._store = store
        self._discard = discard
        self._lookups: Batcher[RecordKey, dict[str, Any] | None] = Batcher(self._read)

    def must_look_up(self, activation: Activation, request: Request) -> bool:
        """True if an earlier copy of the request may be recorded in the archive alone."""
        key, records = request.key, activation.records
        if key is None or not records.archived or request.looked_up == records.generation:
            return False
        return not records.knows(key)

    async def look_up(self, activation: Activation) -> None:
        """Look up all requests that wait in a held mailbox, and release it."""
        records = activation.records
        generation = records.generation
        waiting = [(request, request.key) for request in activation.mailbox.waiting() if request.key]
        asked = [(request, key) for request, key in waiting if not records.knows(key)]
        names = ((activation.type.name, activation.id, _name(key)) for _, key in asked)
        try:
            found = await asyncio.gather(*(self._lookups.get(name) for name in names))
            for (request, key), document in zip(asked, found, strict=True):
                request.looked_up = generation
                if document and key.client:
                    records.restore(key.client, document)
                elif document:
                    request.archived = Record.from_document(document)
        except Exception as error:
            log.warning("%s: the archive of replies can't be read: %s", activation.object_id, error)
            self._discard(activation)
            return
        activation.mailbox.release()

    async def take(self, activation: Activation) -> None:
        """Move what is oldest of an activation's records here, once it is committed."""
        if activation.moving:
            return
        records = activation.records
        oldest = records.oldest()
        if not oldest:
            return
        activation.moving = True
        try:
            committed = activation.wait_committed()
            if committed is not None:
                await committed
            kept = [(f"{old.name}-{old.key}", old.document, timestamp(old.end)) for old in oldest]
            await self._store.archive(activation.type.name, activation.id, kept)
        except (StoreError, Failure) as error:
            log.warning("%s: archiving replies failed: %s", activation.object_id, error)
            return
        finally:
            activation.moving = False
        for old in oldest:
            records.leave(old)
        records.archived = True
        records.generation += 1
        activation.open_pending().changes.set["archived"] = True
        activation.request_commit()

    async def _read(self, wanted: Sequence[RecordKey]) -> list[dict[str, Any] | None]:
        found: dict[RecordKey, dict[str, Any]] = {}
        for type in {name for name, _, _ in wanted}:
            places = [(id, record) for name, id, record in wanted if name == type]
            for (id, record), document in (await self._store.read_archived(type, places)).items():
                found[type, id, record] = document
        return [found.get(key) for key in wanted]


def _name(key: RequestKey) -> str:
    return f"clients-{key.client}" if key.client else f"chosen-{key.key}"
