"""How an object comes into memory, and how it leaves.

Promises: whoever changes an object has claimed its document, or founds it. An object that isn't there is seen by
queries in its default state, and they write nothing; one that is there they only read the first time, and keep
in memory once they come again. No turn begins before the object is ready; where it can't be made so, all who wait
are told why. What is idle leaves memory, by time and by a bound on memory, and only when nothing would be lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import READ
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.store.port import Claim, Document, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.observability.metrics import ACTIVE_OBJECTS, OUTBOX_ENTRIES

if TYPE_CHECKING:
    from aidevos.durable.ownership.router import DurableObjectRouter

log = logging.getLogger(__name__)
HOOK_WITHIN = 10.0
# Objects that are remembered to have been read once.
GLANCES = 10_000


class Lifecycle:
    """Loads the activations of one process, and lets the idle ones go."""

    def __init__(self, router: DurableObjectRouter) -> None:
        self._router = router
        types = router.registry.types
        self._claims = {name: Batcher(partial(self._claim, name)) for name in types}
        self._reads = {name: Batcher(partial(self._read, name)) for name in types}
        self._glanced: dict[tuple[str, str], bool] = {}

    async def load(self, activation: Activation, *, claim: bool) -> None:
        """Make a new activation ready and let its turns begin; with `claim` its document is claimed in any case."""
        try:
            if not claim and _founds(activation):
                activation.found(self._router.next_owner(), self._router.limits.records)
            else:
                await self._load_document(activation, claim=claim)
            await _call_on_activate(activation)
        except StoreError as error:
            self._abandon(activation, Failure("unavailable", f"the store doesn't answer: {error}"))
        except Failure as failure:
            self._abandon(activation, failure)
        except Exception:
            log.exception("%s could not be activated", activation.object_id)
            self._abandon(activation, Failure("internal", "the object could not be activated; the log has the details"))
        else:
            self._begin(activation)

    def sweep(self) -> None:
        """Let idle objects leave memory: those unused for long, and the longest unused past the bound."""
        now, limits = asyncio.get_running_loop().time(), self._router.limits
        activations = self._router.activations()
        idle = sorted((item for item in activations if item.idle), key=attrgetter("last_used"))
        memory = sum(item.size for item in activations)
        ACTIVE_OBJECTS.set(len(activations))
        OUTBOX_ENTRIES.set(sum(len(item.outbox) for item in activations if item.loaded))
        for activation in idle:
            if memory <= limits.memory and activation.last_used > now - limits.idle_after:
                return
            memory -= activation.size
            self._router.forget(activation)
            activation.mailbox.close()
            self._router.spawn(_call_on_hibernate(activation))

    async def _load_document(self, activation: Activation, *, claim: bool) -> None:
        type_name = activation.type.name
        document = None
        if not claim and not _wants_claim(activation):
            document = await self._reads[type_name].get(activation.id)
        show = document is not None and document.exists and not _only_shown(activation)
        claim = claim or _wants_claim(activation) or (show and self._is_asked_again(activation))
        if claim:
            wanted = Claim(activation.id, self._router.next_owner(), activation.partition)
            document = await self._claims[type_name].get(wanted)
            if document is None:
                raise Failure("unavailable", "another process claimed the object; try again")
        activation.load(document, self._router.limits.records, claimed=claim)

    def _is_asked_again(self, activation: Activation) -> bool:
        """Whether an object that queries have come to was asked before, not long ago: then it is worth a
        write to keep it in memory. The first time it is read and forgotten."""
        key = (activation.type.name, activation.id)
        if self._glanced.pop(key, False):
            return True
        self._glanced[key] = True
        if len(self._glanced) > GLANCES:
            del self._glanced[next(iter(self._glanced))]
        return False

    def _begin(self, activation: Activation) -> None:
        if activation.broken:
            return
        router = self._router
        activation.last_used = asyncio.get_running_loop().time()
        activation.begun_at = router.clock.now()
        if not activation.claimed and (activation.woken or _wants_claim(activation)):
            router.spawn(self.load(activation, claim=True))
            return
        if not activation.claimed:
            # It has read, but not claimed: it serves the queries that wait, and no other.
            router.withdraw(activation)
        elif activation.outbox:
            router.relay.offer(activation, sorted(activation.outbox))
        activation.mailbox.release()
        if activation.alarms and activation.claimed:
            router.alarms.begin(activation)

    def _abandon(self, activation: Activation, failure: Failure) -> None:
        if activation.broken:
            return
        self._router.forget(activation)
        for request in activation.mailbox.close():
            request.fail(failure)

    async def _claim(self, type_name: str, claims: Sequence[Claim]) -> list[Document | None]:
        won = await self._router.store.claim(type_name, claims)
        return [won.get(claim.id) for claim in claims]

    async def _read(self, type_name: str, ids: Sequence[str]) -> list[Document | None]:
        found = await self._router.store.read(type_name, ids)
        return [found.get(id) for id in ids]


async def _call_on_activate(activation: Activation) -> None:
    if type(activation.object).on_activate is BaseDurableObject.on_activate:
        return
    async with asyncio.timeout(HOOK_WITHIN):
        await activation.object.on_activate()
    activation.restore(activation.snapshot)


async def _call_on_hibernate(activation: Activation) -> None:
    """Tell an object that has left memory; its next call makes a new activation."""
    try:
        async with asyncio.timeout(HOOK_WITHIN):
            await activation.object.on_hibernate()
    except Exception:
        log.exception("%s: on_hibernate failed", activation.object_id)


def _wants_claim(activation: Activation) -> bool:
    return any(request.method.is_command for request in activation.mailbox.waiting())


def _founds(activation: Activation) -> bool:
    first = next(activation.mailbox.waiting(), None)
    if first is None or not first.method.founds or first.again:
        return False
    # Whether that is the right project is said by the document alone.
    return not first.principal.project or first.type.cls.judges_projects


def _only_shown(activation: Activation) -> bool:
    return all(request.method.name == READ for request in activation.mailbox.waiting())
