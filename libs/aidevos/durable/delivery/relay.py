"""The relay, which sends the outbox entries that were committed with the state: events, tells and dead letters.

Promise: every committed outbox entry is sent at least once, in the object's order and under an ID that is never
reused, even after a crash. An event is published only if the object's last message in the stream is the one that
this relay expects, so a paused relay can neither repeat nor reorder events. A tell is repeated under one request ID
until its object has settled it. An undeliverable entry becomes a dead letter, and stays in the outbox until that
letter is stored. Nothing is dropped.

However many objects have something to send, at most `AT_ONCE` lanes of each kind are in progress; the others wait
without a task. Events are one kind, and the tells to each type another, so a type that doesn't answer delays nothing
else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.clock import Clock
from aidevos.durable.base.tasks import cancel_and_wait
from aidevos.durable.bus.port import EventBus, OrderConflict, StreamFull
from aidevos.durable.client.client import ObjectCaller, issued_at
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.entries import Entry
from aidevos.durable.turns.headers import digest

log = logging.getLogger(__name__)
BACKOFF = Backoff(0.05, 5.0)
TELL_DEADLINE = 10.0
# Lanes of one kind that are in progress in one process: a bound on its memory and its load.
AT_ONCE = 256


class Lane:
    """Entries of one object that are sent one after another: its events, or its tells to one object."""

    __slots__ = ("activation", "attempts", "conflicts", "name", "numbers")

    def __init__(self, activation: Activation, name: str) -> None:
        self.activation = activation
        self.name = name
        self.numbers: deque[int] = deque()
        # Of the first entry.
        self.attempts = 0
        self.conflicts = 0


class Senders:
    """At most `AT_ONCE` tasks that send lanes. A lane that fails waits for its next attempt without a task."""

    def __init__(self, send: Callable[[Lane], Awaitable[bool]]) -> None:
        self._send = send
        self._ready: deque[Lane] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, lane: Lane) -> None:
        """Send a lane as soon as there is a free task."""
        self._ready.append(lane)
        if len(self._tasks) < AT_ONCE and not self._closed:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop sending."""
        self._closed = True
        await cancel_and_wait(list(self._tasks))

    async def _work(self) -> None:
        while self._ready:
            lane = self._ready.popleft()
            if not await self._try(lane):
                asyncio.get_running_loop().call_later(BACKOFF.pause(max(lane.attempts, 1)), self.start, lane)

    async def _try(self, lane: Lane) -> bool:
        try:
            return await self._send(lane)
        except Exception:
            log.exception("%s: sending to %r failed in an unexpected way", lane.activation.object_id, lane.name)
            return False


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
        self._lanes: dict[tuple[Activation, str], Lane] = {}
        self._senders: dict[str, Senders] = {}

    def offer(self, activation: Activation, numbers: list[int]) -> None:
        """Queue committed entries of an activation, in the order of their numbers."""
        for number in numbers:
            entry = _entry(activation, number)
            lane = self._lanes.get((activation, entry.lane))
            if lane is None:
                lane = self._lanes[activation, entry.lane] = Lane(activation, entry.lane)
                lane.numbers.append(number)
                self._senders_of(entry).start(lane)
            else:
                lane.numbers.append(number)

    async def close(self) -> None:
        """Stop sending. Unsent entries stay in the outboxes."""
        await asyncio.gather(*(senders.close() for senders in self._senders.values()))

    def _senders_of(self, entry: Entry) -> Senders:
        kind = entry.kind if entry.kind == "event" else entry.subject.split(".")[1]
        if kind not in self._senders:
            self._senders[kind] = Senders(self._send)
        return self._senders[kind]

    async def _send(self, lane: Lane) -> bool:
        """Send the entries of a lane. Return False if one has failed, which is repeated after a pause."""
        activation = lane.activation
        while lane.numbers and not activation.broken:
            entry = _entry(activation, lane.numbers[0])
            lane.attempts += 1
            if not await self._deliver(lane, entry):
                return False
            lane.attempts = lane.conflicts = 0
            lane.numbers.popleft()
            if not activation.broken:
                self._on_sent(activation, entry.number)
        del self._lanes[activation, lane.name]
        return True

    async def _deliver(self, lane: Lane, entry: Entry) -> bool:
        """Try to deliver an entry; return False if that has failed."""
        activation = lane.activation
        try:
            if entry.kind == "event":
                await self._publish_in_order(lane, entry)
            elif entry.kind == "letter":
                await bury(self._client, msgspec.msgpack.decode(entry.payload, type=Letter))
            else:
                await self._tell(activation, entry, lane.attempts)
            return True
        except OrderConflict:
            log.warning("%s: the stream has another last event than it shows", activation.object_id)
        except StreamFull:
            log.error("the event stream is full: raise AIDEVOS_EVENTS_MAX_BYTES or lower AIDEVOS_EVENTS_MAX_AGE")
        except Exception as error:
            log.warning("%s: sending to %s failed, trying again: %s", activation.object_id, entry.subject, error)
        activation.stream.known = False
        return False

    async def _publish_in_order(self, lane: Lane, entry: Entry) -> None:
        """Publish an event. The first time that its order is refused, the position is read again at once."""
        try:
            await self._publish(lane.activation, entry)
        except OrderConflict:
            lane.conflicts += 1
            if lane.conflicts > 1:
                raise
            lane.activation.stream.known = False
            await self._publish(lane.activation, entry)

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
