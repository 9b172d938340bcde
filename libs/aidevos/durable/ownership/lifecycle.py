"""How an object comes into memory, and how it leaves.

Promises: whoever changes an object has claimed its document, or creates it. An object that isn't there is seen by
queries in its default state, and they write nothing; one that is there they only read the first time, and keep
in memory once they come again. No turn begins before the object is ready; where it can't be made so, all who wait
are told why. What is idle leaves memory, by time and by a bound on memory, and only when nothing would be lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter

from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import READ
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.objects.object import BaseDurableObject
from aidevos.durable.objects.registry import ObjectType
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.owner_ids import OwnerIds
from aidevos.durable.store.port import Claim, Document, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.mailbox import Mailbox
from aidevos.durable.turns.request import Request
from aidevos.observability.metrics import ACTIVE_OBJECTS, OUTBOX_ENTRIES

log = logging.getLogger(__name__)
HOOK_WITHIN = 10.0
# Objects that are remembered to have been read once.
READ_ONCE = 10_000
# Objects that one scan of the outboxes reads at a time.
SCAN_PAGE = 1000


class Lifecycle:
    """Loads the activations of one process, and lets the idle ones go.

    `start` begins a turn of an activation, and `save` commits what is pending of one. `loaded` is called when an
    activation has claimed its document, before its first turn: its outbox holds only what is committed.
    """

    def __init__(
        self,
        environment: Environment,
        catalogue: Catalogue,
        owner_ids: OwnerIds,
        gate: Gate,
        *,
        start: Callable[[Activation, Request], asyncio.Task[None] | None],
        save: Callable[[Activation], None],
        loaded: Callable[[Activation], None],
    ) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._owner_ids = owner_ids
        self._gate = gate
        self._start = start
        self._save = save
        self._loaded = loaded
        types = environment.registry.types
        self._claims = {name: Batcher(partial(self._claim, name)) for name in types}
        self._reads = {name: Batcher(partial(self._read, name)) for name in types}
        self._read_once: dict[tuple[str, str], bool] = {}

    def activate(self, type: ObjectType, id: str, claim: bool) -> Activation:
        """Return a new activation, which is loading; with `claim` its document is claimed in any case."""
        activation: Activation

        def start(request: Request) -> asyncio.Task[None] | None:
            return self._start(activation, request)

        activation = Activation(type, id, Mailbox(self._environment.limits.mailbox, start), self._save)
        self._environment.spawn(self._load(activation, claim=claim))
        return activation

    async def _load(self, activation: Activation, *, claim: bool) -> None:
        """Make a new activation ready and let its turns begin; with `claim` its document is claimed in any case."""
        try:
            if not claim and self._may_create(activation):
                activation.found(self._owner_ids.next(), self._environment.limits.records)
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
        now, limits = asyncio.get_running_loop().time(), self._environment.limits
        activations = self._catalogue.all()
        idle = sorted((item for item in activations if item.idle), key=attrgetter("last_used"))
        memory = sum(item.size for item in activations)
        ACTIVE_OBJECTS.set(len(activations))
        OUTBOX_ENTRIES.set(sum(len(item.outbox) for item in activations if item.loaded))
        for activation in idle:
            if memory <= limits.memory and activation.last_used > now - limits.idle_after:
                return
            memory -= activation.size
            self._catalogue.forget(activation)
            activation.mailbox.close()
            self._environment.spawn(_call_on_hibernate(activation))

    async def scan(self, types: Iterable[str]) -> None:
        """Wake the objects of these types whose outboxes hold something that nobody is sending."""
        for type_name in types:
            last = ""
            while ids := await self._environment.store.list_pending(type_name, last, SCAN_PAGE):
                for id in ids:
                    self._catalogue.wake(type_name, id)
                last = ids[-1]

    async def _load_document(self, activation: Activation, *, claim: bool) -> None:
        type_name = activation.type.name
        document = None
        if not claim and not _wants_claim(activation):
            document = await self._reads[type_name].get(activation.id)
        show = document is not None and document.exists and not _only_shown(activation)
        claim = claim or _wants_claim(activation) or (show and self._is_asked_again(activation))
        if claim:
            wanted = Claim(activation.id, self._owner_ids.next(), activation.partition)
            document = await self._claims[type_name].get(wanted)
            if document is None:
                raise Failure("unavailable", "another process claimed the object; try again")
        activation.load(document, self._environment.limits.records, claimed=claim)

    def _may_create(self, activation: Activation) -> bool:
        """True if the first request usually creates its object, and may do so without a look at the document."""
        first = next(activation.mailbox.waiting(), None)
        if first is None or not first.method.creates or first.restarted:
            return False
        return not self._gate.needs_document(first)

    def _is_asked_again(self, activation: Activation) -> bool:
        """Whether an object that queries have come to was asked before, not long ago: then it is worth a
        write to keep it in memory. The first time it is read and forgotten."""
        key = (activation.type.name, activation.id)
        if self._read_once.pop(key, False):
            return True
        self._read_once[key] = True
        if len(self._read_once) > READ_ONCE:
            del self._read_once[next(iter(self._read_once))]
        return False

    def _begin(self, activation: Activation) -> None:
        if activation.broken:
            return
        activation.last_used = asyncio.get_running_loop().time()
        activation.begun_at = self._environment.clock.now()
        if not activation.claimed and (activation.woken or _wants_claim(activation)):
            self._environment.spawn(self._load(activation, claim=True))
            return
        if activation.claimed:
            self._loaded(activation)
        else:
            # It has read, but not claimed: it serves the queries that wait, and no other.
            self._catalogue.withdraw(activation)
        activation.mailbox.release()

    def _abandon(self, activation: Activation, failure: Failure) -> None:
        if activation.broken:
            return
        self._catalogue.forget(activation)
        for request in activation.mailbox.close():
            request.fail(failure)

    async def _claim(self, type_name: str, claims: Sequence[Claim]) -> list[Document | None]:
        won = await self._environment.store.claim(type_name, claims)
        return [won.get(claim.id) for claim in claims]

    async def _read(self, type_name: str, ids: Sequence[str]) -> list[Document | None]:
        found = await self._environment.store.read(type_name, ids)
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


def _only_shown(activation: Activation) -> bool:
    return all(request.method.name == READ for request in activation.mailbox.waiting())
