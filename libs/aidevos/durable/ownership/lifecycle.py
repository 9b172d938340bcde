"""The lifecycle of activations: how objects are loaded into memory and leave it.

Promises: an activation changes an object only after it has claimed the document, or by creating it. A query on an
absent object sees the default state and writes nothing. The first query on an existing object only reads the
document; repeated queries claim it and keep the object in memory. No turn starts before its object is loaded, and
if loading fails, every waiting request gets the reason. Idle objects leave memory by time and by a memory bound, and
only when nothing would be lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from aidevos import heap
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import HIBERNATE, PENDING, READ
from aidevos.durable.base.batcher import Batcher
from aidevos.durable.objects.registry import NewerSchema, ObjectType
from aidevos.durable.ownership.catalogue import Catalogue
from aidevos.durable.ownership.owner_ids import OwnerIds
from aidevos.durable.ownership.turn_counter import TurnCounter
from aidevos.durable.store.port import Claim, Document, StoreError
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.environment import Environment
from aidevos.durable.turns.gate import Gate
from aidevos.durable.turns.headers import Reply
from aidevos.durable.turns.hooks import call_on_activate, call_on_hibernate, has_on_hibernate
from aidevos.observability.metrics import ACTIVATIONS, HIBERNATIONS

log = logging.getLogger(__name__)
# The number of recently read objects that are remembered, to recognize repeated queries.
READ_ONCE = 10_000
# Methods that look at an object and don't use it: they keep no object in memory.
LOOKS = frozenset({READ, PENDING, HIBERNATE})
# Seconds within which an object must become idle that should leave memory, and between two looks.
IDLE_WITHIN = 1.0
LOOK_EVERY = 0.005
# Bytes that sweeps must have freed to return them to the system, and the least time in seconds between two returns.
GIVEN_BACK = 4 * 1024 * 1024
GIVE_BACK_EVERY = 10.0
# Objects per page in a scan of the outboxes.
SCAN_PAGE = 100
# Objects that one scan wakes.
WAKE_LIMIT = 1000


class Lifecycle:
    """Loads the activations of one process, and hibernates the idle ones.

    `turns` begins the turns of activations, and `save` commits their pending changes. `on_loaded` is called when an
    activation has claimed its document and before its first turn, so its outbox holds only committed entries.
    """

    def __init__(
        self,
        environment: Environment,
        catalogue: Catalogue,
        owner_ids: OwnerIds,
        gate: Gate,
        *,
        turns: TurnCounter,
        save: Callable[[Activation], None],
        on_loaded: Callable[[Activation], None],
    ) -> None:
        self._environment = environment
        self._catalogue = catalogue
        self._owner_ids = owner_ids
        self._gate = gate
        self._turns = turns
        self._save = save
        self._on_loaded = on_loaded
        types = environment.registry.types
        self._claims = {name: Batcher(partial(self._claim, name)) for name in types}
        self._reads = {name: Batcher(partial(self._read, name)) for name in types}
        self._read_once: dict[tuple[str, str], bool] = {}
        # The bytes that sweeps have freed since the last time that free memory was given back.
        self._freed, self._given_back_at = 0, -math.inf
        # The last ID that an unfinished scan of a type has handled.
        self._scanned: dict[str, str] = {}

    def activate(self, type: ObjectType, id: str, partition: int, claim: bool) -> Activation:
        """Return a new activation, and start to load it. With `claim`, it always claims the document."""
        limit = self._environment.limits.mailbox
        activation = Activation(type, id, partition, limit, self._turns.start, self._save)
        self._environment.spawn(self._load(activation, claim=claim))
        return activation

    async def _load(self, activation: Activation, *, claim: bool) -> None:
        """Load an activation, and release its mailbox. With `claim`, always claim the document."""
        try:
            if not claim and self._may_create(activation):
                activation.load_new(self._owner_ids.next(), self._environment.limits.records)
            else:
                await self._load_document(activation, claim=claim)
            await call_on_activate(activation)
        except StoreError as error:
            self._abandon(activation, Failure("unavailable", f"the store failed: {error}"))
        except NewerSchema as newer:
            self._environment.on_newer_schema(activation.type.name, activation.partition)
            self._abandon(activation, newer)
        except Failure as failure:
            self._abandon(activation, failure)
        except Exception:
            log.exception("activating %s failed", activation.object_id, extra=activation.log_fields)
            self._abandon(activation, Failure("internal", "the object could not be activated; the log has the details"))
        else:
            self._make_ready(activation)

    async def sweep(self) -> None:
        """Hibernate objects that have long been idle, and let those rest that were not used for some seconds.

        While memory exceeds its bound, the longest unused ones leave too, also if only their outboxes are left to do,
        which a later scan finds again.
        """
        residents = self._catalogue.residents
        before = residents.memory
        now = asyncio.get_running_loop().time()
        idle_since = now - self._environment.limits.idle_after
        await self._environment.slices.run(self._hibernate_idle(idle_since))
        await self._environment.slices.run(residents.rest_unused(now))
        if residents.pressed.is_set():
            await self._environment.slices.run(self._relieve(now))
        self._freed += max(0, before - residents.memory)
        if self._freed >= GIVEN_BACK and now >= self._given_back_at + GIVE_BACK_EVERY:
            self._freed, self._given_back_at = 0, now
            await asyncio.to_thread(heap.give_back)

    def _hibernate_idle(self, since: float) -> Iterator[None]:
        for activation in self._catalogue.residents.unused_since(since):
            if activation is not None and activation.idle:
                self._hibernate(activation)
            yield

    def _relieve(self, now: float) -> Iterator[None]:
        residents = self._catalogue.residents
        for activation in residents.unused_since(now):
            if activation is not None and activation.settled:
                self._hibernate(activation)
            yield
            if not residents.pressed.is_set():
                return

    def _hibernate(self, activation: Activation) -> None:
        self._catalogue.forget(activation)
        HIBERNATIONS.labels(activation.type.name).inc()
        activation.mailbox.close()
        if has_on_hibernate(activation):
            self._environment.spawn(call_on_hibernate(activation))

    def hibernate(self, activation: Activation, respond: Callable[[Reply], None], reply: Reply) -> None:
        """Let an object leave memory, and then send the reply. A failure is sent at once.

        An object that doesn't become idle in time stays, and the reply is `conflict`. One whose messages can't be sent
        leaves them to a later scan.
        """
        if reply.failed:
            respond(reply)
        else:
            self._environment.spawn(self._hibernate_soon(activation, respond, reply))

    async def _hibernate_soon(self, activation: Activation, respond: Callable[[Reply], None], reply: Reply) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + IDLE_WITHIN
        while activation.claimed and not activation.broken:
            late = loop.time() >= end
            if activation.idle or (late and activation.settled):
                self._hibernate(activation)
            elif late:
                reply = Reply.of(Failure("conflict", "the object is in use, so it stays in memory"))
                break
            else:
                if activation.pending is not None:
                    activation.request_commit()
                await asyncio.sleep(LOOK_EVERY)
        respond(reply)

    async def scan(self) -> bool:
        """Wake objects in this process's partitions whose outboxes hold unsent entries. Raises `StoreError`.

        It wakes at most `WAKE_LIMIT` objects, and none while memory exceeds its bound. Return False if there may be
        more; the next scan continues there.
        """
        room = WAKE_LIMIT
        for type_name in self._environment.registry.types:
            partitions = self._environment.partitions.served(type_name)
            room, last = await self._wake_pending(type_name, partitions, self._scanned.pop(type_name, ""), room)
            if last is not None:
                self._scanned[type_name] = last
                return False
        return True

    async def scan_taken(self, type_name: str, partitions: Collection[int]) -> None:
        """Wake objects with unsent entries in partitions that this process has just taken.

        What is left, or can't be read, is found by the next scan.
        """
        try:
            await self._wake_pending(type_name, partitions, "", WAKE_LIMIT)
        except StoreError as error:
            log.warning("scanning the outboxes of %s failed: %s", type_name, error)

    async def _wake_pending(
        self, type_name: str, partitions: Collection[int], last: str, room: int
    ) -> tuple[int, str | None]:
        """Wake up to `room` objects with IDs after `last`. Return the room that is left, and where to continue."""
        while ids := await self._environment.store.list_pending(type_name, partitions, last, SCAN_PAGE):
            for id in ids:
                if self._catalogue.get(type_name, id) is None:
                    if not room or self._catalogue.residents.pressed.is_set():
                        return room, last
                    room -= 1
                    self._catalogue.wake(type_name, id)
                last = id
            await asyncio.sleep(0)
        return room, None

    async def _load_document(self, activation: Activation, *, claim: bool) -> None:
        type_name = activation.type.name
        document = None
        if not claim and not _needs_claim(activation):
            document = await self._reads[type_name].get(activation.id)
        may_stay = document is not None and document.exists and not _only_reads(activation)
        claim = claim or _needs_claim(activation) or (may_stay and self._was_read_before(activation))
        if claim:
            wanted = Claim(activation.id, self._owner_ids.next(), activation.partition)
            document = await self._claims[type_name].get(wanted)
            if document is None:
                raise Failure("unavailable", "another process claimed the object; try again")
        load = partial(activation.load, document, self._environment.limits.records, claimed=claim)
        await self._environment.slices.call(load)

    def _may_create(self, activation: Activation) -> bool:
        """Return True if the first request is expected to create its object and needs no look at the document."""
        first = next(activation.mailbox.waiting(), None)
        if first is None or not first.method.creates or first.restarted:
            return False
        return not self._gate.needs_document(first)

    def _was_read_before(self, activation: Activation) -> bool:
        """Return True if the object was queried before, not long ago. Keeping it in memory is then worth a claim."""
        key = (activation.type.name, activation.id)
        if self._read_once.pop(key, False):
            return True
        self._read_once[key] = True
        if len(self._read_once) > READ_ONCE:
            del self._read_once[next(iter(self._read_once))]
        return False

    def _make_ready(self, activation: Activation) -> None:
        if activation.broken:
            return
        activation.last_used = asyncio.get_running_loop().time()
        activation.loaded_at = self._environment.clock.now()
        if not activation.claimed and (activation.woken_for_alarm or _needs_claim(activation)):
            self._environment.spawn(self._load(activation, claim=True))
            return
        if activation.claimed:
            ACTIVATIONS.labels(activation.type.name).inc()
            self._catalogue.residents.add(activation)
            self._on_loaded(activation)
        else:
            # It was read but not claimed, so it serves only the queries that already wait.
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


def _needs_claim(activation: Activation) -> bool:
    return any(request.method.is_command for request in activation.mailbox.waiting())


def _only_reads(activation: Activation) -> bool:
    return all(request.method.name in LOOKS for request in activation.mailbox.waiting())
