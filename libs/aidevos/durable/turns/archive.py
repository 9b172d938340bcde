"""The archive of completion records: the older records of objects that collect many.

Promise: a record is in the archive before it leaves the document. A look-up that began before a move doesn't
count: each move starts a new generation, and a request that was looked up in an earlier generation is looked up
again. The archive is never consulted for an object that has moved no record. A request whose look-up fails is refused
as `unavailable`, because it may be a repeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
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
LOOK_UP_WITHIN = 5.0
# An object's type and ID, and the record's name.
RecordKey = tuple[str, str, str]


class ReplyArchive:
    """The access of one process to the archive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lookups: Batcher[RecordKey, dict[str, Any] | None] = Batcher(self._read)

    def must_look_up(self, activation: Activation, request: Request) -> bool:
        """Return True if only the archive may hold the record of an earlier copy of the request."""
        key, records = request.key, activation.records
        if key is None or not records.archived or request.archive_generation == records.generation:
            return False
        return not records.knows(key)

    async def look_up(self, activation: Activation) -> None:
        """Look up all waiting requests of a held mailbox, and release it."""
        records = activation.records
        generation = records.generation
        waiting = [(request, request.key) for request in activation.mailbox.waiting() if request.key]
        asked = [(request, key) for request, key in waiting if not records.knows(key)]
        try:
            async with asyncio.timeout(LOOK_UP_WITHIN):
                await asyncio.gather(*(self._find(activation, request, key) for request, key in asked))
            if activation.broken:
                return
            for request, _ in asked:
                request.archive_generation = generation
        except Exception as error:
            log.warning(
                "%s: reading the reply archive failed: %s",
                activation.object_id,
                error or "no answer in time",
                extra=activation.log_fields,
            )
            for request in activation.mailbox.remove({request for request, _ in asked}):
                request.fail(Failure("unavailable", "the outcomes of earlier requests can't be read"))
        activation.mailbox.release()

    async def _find(self, activation: Activation, request: Request, key: RequestKey) -> None:
        """Find the record of an earlier copy of one request, which may be the stub of a client that was moved too."""
        records = activation.records
        if key.client and not records.has_client(key):
            client = await self._get(activation, f"clients-{key.client}")
            if client is not None:
                records.restore(key.client, client)
        record = None
        if records.has_stub(key):
            record = await self._get(activation, f"results-{key.key}")
        elif not key.client or (key.former and not records.has_client(key)):
            record = await self._get(activation, f"chosen-{key.former or key.key}")
        if record is not None:
            request.archived_record = Record.from_document(record)

    async def _get(self, activation: Activation, name: str) -> dict[str, Any] | None:
        return await self._lookups.get((activation.type.name, activation.id, name))

    async def move_oldest(self, activation: Activation) -> None:
        """Move the oldest records of an activation into the archive, once they are committed."""
        if activation.archiving:
            return
        records = activation.records
        candidates = records.archive_candidates()
        if not candidates:
            return
        activation.archiving = True
        try:
            committed = activation.wait_committed()
            if committed is not None:
                await committed
            kept = [
                (f"{candidate.name}-{candidate.key}", candidate.document, timestamp(candidate.end))
                for candidate in candidates
            ]
            await self._store.archive(activation.type.name, activation.id, kept)
        except (StoreError, Failure) as error:
            log.warning("%s: archiving replies failed: %s", activation.object_id, error, extra=activation.log_fields)
            return
        finally:
            activation.archiving = False
        for candidate in candidates:
            records.drop_archived(candidate)
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
