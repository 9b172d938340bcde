"""The relay, which sends the outbox entries that were committed with the state: events, tells and dead letters.

Promise: every committed outbox entry is sent at least once, in the object's order and under an ID that is never
reused, even after a crash. An event is published only if the object's last message in the stream is the one that
this relay expects, so a paused relay can neither repeat nor reorder events. A tell is repeated under one request ID
until its object has settled it. An undeliverable entry becomes a dead letter, and stays in the outbox until that
letter is stored. Nothing is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.clock import Clock
from aidevos.durable.base.tasks import cancel_and_wait, restart_on_failure
from aidevos.durable.bus.port import EventBus, OrderConflict, StreamFull
from aidevos.durable.client.client import ObjectCaller, issued_at
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.entries import Entry
from aidevos.durable.turns.headers import digest

log = logging.getLogger(__name__)
BACKOFF = Backoff(0.05, 5.0)
TELL_DEADLINE = 10.0


class Relay:
    """Sends the outboxes of one process.

    `tell_age` is the longest time in seconds that a tell is retried. `is_confidential(type, method)` is True if a
    method's arguments must not be shown. `on_sent` is called with the number of each delivered entry.
    """

    def __init__(
        self,
        bus: EventBus,
        client: ObjectCaller,
        clock: Clock,
        tell_age: float,
        *,
        is_confidential: Callable[[str, str], bool],
        on_sent: Callable[[Activation, int], None],
    ) -> None:
        self._bus = bus
        self._client = client
        self._clock = clock
        self._tell_age = tell_age
        self._is_confidential = is_confidential
        self._on_sent = on_sent
        self._lanes: dict[tuple[Activation, str], asyncio.Task[None]] = {}
        self._queues: dict[tuple[Activation, str], list[int]] = {}

    def offer(self, activation: Activation, numbers: list[int]) -> None:
        """Queue committed entries of an activation, in the order of their numbers."""
        for number in numbers:
            entry = _entry(activation, number)
            lane = (activation, entry.lane)
            self._queues.setdefault(lane, []).append(number)
            if lane not in self._lanes:
                task = asyncio.get_running_loop().create_task(self._run(lane))
                self._lanes[lane] = task

    async def close(self) -> None:
        """Stop sending. Unsent entries stay in the outboxes."""
        await cancel_and_wait(list(self._lanes.values()))

    async def _run(self, lane: tuple[Activation, str]) -> None:
        try:
            await restart_on_failure(partial(self._send_all, lane[0], self._queues[lane]))
        finally:
            del self._lanes[lane], self._queues[lane]

    async def _send_all(self, activation: Activation, queue: list[int]) -> None:
        while queue and not activation.broken:
            entry = _entry(activation, queue[0])
            await self._deliver(activation, entry)
            queue.pop(0)
            if not activation.broken:
                self._on_sent(activation, entry.number)

    async def _deliver(self, activation: Activation, entry: Entry) -> None:
        position, pauses, attempts, conflicts = activation.stream, BACKOFF.pauses(), 0, 0
        while not activation.broken:
            attempts += 1
            try:
                if entry.kind == "event":
                    await self._publish(activation, entry)
                elif entry.kind == "letter":
                    await bury(self._client, msgspec.msgpack.decode(entry.payload, type=Letter))
                else:
                    await self._tell(activation, entry, attempts)
                return
            except OrderConflict:
                # The position is read again at once, but not in a tight loop while the stream keeps refusing it.
                position.known = False
                conflicts += 1
                if conflicts == 1:
                    continue
                log.warning("%s: the stream has another last event than it shows", activation.object_id)
            except StreamFull:
                log.error("the event stream is full: raise AIDEVOS_EVENTS_MAX_BYTES or lower AIDEVOS_EVENTS_MAX_AGE")
            except Exception as error:
                log.warning("%s: sending to %s failed, trying again: %s", activation.object_id, entry.subject, error)
            position.known = False
            await pauses.wait()

    async def _publish(self, activation: Activation, entry: Entry) -> None:
        scope, position = subjects.events_of(activation.type.name, activation.id), activation.stream
        if not position.known:
            position.sequence, position.number = await self._bus.read_last(scope)
            position.known = True
        if position.number >= entry.number:
            return
        event_id = f"{activation.object_id}:{entry.number}"
        position.sequence = await self._bus.publish(
            entry.subject, entry.payload, event_id, number=entry.number, scope=scope, after=position.sequence
        )
        position.number = entry.number

    async def _tell(self, activation: Activation, entry: Entry, attempts: int) -> None:
        if issued_at(entry.number) < self._clock.now() - self._tell_age:
            late = Failure("unavailable", "the tell was not applied in time")
            await self._bury(activation, entry, attempts - 1, late)
            return
        request_id = f"{TELL_PREFIX}{entry.number}.{digest(activation.object_id)}"
        try:
            await self._client.request(entry.subject, entry.payload, request_id=request_id, deadline=TELL_DEADLINE)
        except Failure as failure:
            if failure.is_transient:
                raise
            await self._bury(activation, entry, attempts, failure)

    async def _bury(self, activation: Activation, entry: Entry, attempts: int, failure: Failure) -> None:
        _, type, _, method = entry.subject.split(".")
        letter = Letter(
            id=letter_id(activation.object_id, str(entry.number)),
            kind="tell",
            source=activation.object_id,
            subject=entry.subject,
            payload=entry.payload,
            code=failure.code,
            detail=failure.detail,
            attempts=attempts,
            at=self._clock.now(),
            confidential=self._is_confidential(type, method),
        )
        await bury(self._client, letter)


def _entry(activation: Activation, number: int) -> Entry:
    return Entry.from_document(number, activation.outbox[number])
