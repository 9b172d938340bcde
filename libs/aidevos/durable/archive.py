"""Completion records outside their objects' documents: those with IDs that callers chose, when many gather.

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
from aidevos.durable.activation import Activation
from aidevos.durable.batch import Batcher
from aidevos.durable.completion import Record
from aidevos.durable.request import Request
from aidevos.durable.store.port import StoreError

if TYPE_CHECKING:
    from aidevos.durable.router import DurableObjectRouter

log = logging.getLogger(__name__)
Question = tuple[str, str, str]


class ReplyArchive:
    def __init__(self, router: DurableObjectRouter) -> None:
        self._router = router
        self._questions: Batcher[Question, dict[str, Any] | None] = Batcher(self._ask_store)

    def must_be_asked(self, activation: Activation, request: Request) -> bool:
        """Whether an earlier copy of the request may be recorded in the archive alone."""
        key, records = request.key, activation.records
        return bool(key and not key.client and records.archived and request.looked_up != records.generation)

    async def ask(self, activation: Activation) -> None:
        """Look up all requests that wait in a held mailbox, and release it."""
        generation = activation.records.generation
        requests = [item for item in activation.mailbox.waiting() if item.key and not item.key.client]
        keys = [item.key.key for item in requests if item.key]
        questions = ((activation.type.name, activation.id, key) for key in keys)
        try:
            found = await asyncio.gather(*(self._questions.get(question) for question in questions))
        except StoreError as error:
            log.warning("%s: the archive of replies doesn't answer: %s", activation.object_id, error)
            self._router.discard(activation)
            return
        for request, record in zip(requests, found, strict=True):
            request.archived = Record.from_document(record) if record else None
            request.looked_up = generation
        activation.mailbox.release()

    async def take(self, activation: Activation) -> None:
        """Move the oldest records of an activation here, once they are committed."""
        records = activation.records
        oldest = records.oldest()
        if not oldest or activation.moving:
            return
        activation.moving = True
        try:
            committed = activation.wait_committed()
            if committed is not None:
                await committed
            await self._router.store.archive(activation.type.name, activation.id, records.for_archive(oldest))
        except (StoreError, Failure) as error:
            log.warning("%s: archiving replies failed: %s", activation.object_id, error)
            return
        finally:
            activation.moving = False
        for key, _ in oldest:
            records.leave(key)
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
