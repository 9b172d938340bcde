"""Completion records outside their objects' documents: the older ones, where many gather.

Promise: a record is in the archive before it leaves the document, and a look-up that began before
it left counts for nothing: each move starts a new generation, and a request that was looked up in
an earlier one is looked up again. Objects that have moved no record are never looked up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aidevos.contracts.errors import Failure
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.base.clock import timestamp
from aidevos.durable.store.port import StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.completion import Record
from aidevos.durable.turns.request import Request, RequestKey

if TYPE_CHECKING:
    from aidevos.durable.ownership.router import DurableObjectRouter

log = logging.getLogger(__name__)
Question = tuple[str, str, str]


class ReplyArchive:
    def __init__(self, router: DurableObjectRouter) -> None:
        self._router = router
        self._questions: Batcher[Question, dict[str, Any] | None] = Batcher(self._ask_store)

    def must_be_asked(self, activation: Activation, request: Request) -> bool:
        """Whether an earlier copy of the request may be recorded in the archive alone."""
        key, records = request.key, activation.records
        if key is None or not records.archived or request.looked_up == records.generation:
            return False
        return not records.knows(key)

    async def ask(self, activation: Activation) -> None:
        """Look up all requests that wait in a held mailbox, and release it."""
        records = activation.records
        generation = records.generation
        waiting = [(request, request.key) for request in activation.mailbox.waiting() if request.key]
        asked = [(request, key) for request, key in waiting if not records.knows(key)]
        questions = ((activation.type.name, activation.id, _place(key)) for _, key in asked)
        try:
            found = await asyncio.gather(*(self._questions.get(question) for question in questions))
            for (request, key), document in zip(asked, found, strict=True):
                request.looked_up = generation
                if document and key.client:
                    records.restore(key.client, document)
                elif document:
                    request.archived = Record.from_document(document)
        except Exception as error:
            log.warning("%s: the archive of replies can't be read: %s", activation.object_id, error)
            self._router.discard(activation)
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
            await self._router.store.archive(activation.type.name, activation.id, kept)
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
        self._router.commit(activation)

    async def _ask_store(self, questions: Sequence[Question]) -> list[dict[str, Any] | None]:
        found: dict[Question, dict[str, Any]] = {}
        for type in {question[0] for question in questions}:
            keys = [(id, key) for of, id, key in questions if of == type]
            for (id, key), record in (await self._router.store.archived(type, keys)).items():
                found[type, id, key] = record
        return [found.get(question) for question in questions]


def _place(key: RequestKey) -> str:
    return f"clients-{key.client}" if key.client else f"chosen-{key.key}"
