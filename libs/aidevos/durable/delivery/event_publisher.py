"""The publisher of one process's events, which sends them to the bus in batches.

Promise: the events of an object are published in its order, each only if the object's last message in the stream is the
one that this publisher expects. So a paused publisher can neither repeat nor reorder events.

Everything that is ready goes into one batch, whatever its type. An object's events are in one batch at a time, as many
of them as have gathered. A batch begins at once if none is in progress. Further ones begin only when they are full.

A batch costs JetStream as much as a dozen single events, so batches must be full to be worth it. While many events
come, the next batch therefore waits until `GATHER_FOR` seconds have passed since the last one began. A process that
emits little never waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import perf_counter

from aidevos.contracts import subjects
from aidevos.contracts.events import trace_of
from aidevos.durable.base.clock import Clock
from aidevos.durable.base.tasks import BackgroundTasks
from aidevos.durable.bus.delivering import describe_event
from aidevos.durable.bus.port import BusError, Event, EventBus, OrderConflict, StreamFull
from aidevos.durable.client.client import issued_at
from aidevos.durable.delivery.lanes import Lane, Senders, call_after_pause
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.entries import EVENTS_LANE
from aidevos.durable.turns.pending import StreamPosition
from aidevos.observability import tracing
from aidevos.observability.metrics import EVENT_LAG, EVENTS
from aidevos.observability.tracing import Segment

log = logging.getLogger(__name__)
# Bounds of one batch: its events, its bytes (which only a single event may exceed), and the events of one object.
BATCH_COUNT = 256
BATCH_BYTES = 1024 * 1024
OBJECT_COUNT = 64
# The largest number of batches in progress.
BATCHES = 4
# Seconds for which events gather while many come. That is, if the last batch had at least `SEVERAL` events, and at that
# rate a batch gets at least `MANY`.
GATHER_FOR = 0.05
SEVERAL, MANY = 4, 16
NOT_STORED = "events can't be published, and wait in their outboxes"
_PUBLISHED, _FAILED = EVENTS.labels("published"), EVENTS.labels("failed")

Batch = list[tuple[Lane, list[Event]]]
Results = Sequence[tuple[Event, int | Exception]]


class EventPublisher:
    """Publishes events. `on_sent` is called with the number of each event that the bus has stored."""

    def __init__(self, bus: EventBus, clock: Clock, on_sent: Callable[[Activation, int], None]) -> None:
        self._bus = bus
        self._clock = clock
        self._on_sent = on_sent
        self._lanes: dict[Activation, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._locating = Senders(self._locate)
        self._batches = BackgroundTasks()
        self._in_progress = 0
        # When the last batch began, and when the next one may begin before it is full.
        self._began = 0.0
        self._gather_until = 0.0
        self._timer: asyncio.Handle | None = None
        self._due_at = math.inf
        self._closed = False
        # Why the last event could not be published.
        self._problem = ""

    def offer(self, activation: Activation, number: int) -> None:
        """Queue a committed event of an activation, after all with lower numbers."""
        lane = self._lanes.get(activation)
        if lane is None:
            lane = self._lanes[activation] = Lane(activation, EVENTS_LANE)
            self._start(lane)
        lane.numbers.append(number)

    def find_problem(self) -> str:
        """Return why events that wait can't be published, or an empty string."""
        return self._problem if self._lanes else ""

    async def close(self) -> None:
        """Stop publishing. Unpublished events stay in the outboxes."""
        self._closed = True
        await self._locating.close()
        await self._batches.close()

    def _start(self, lane: Lane) -> None:
        if lane.activation.broken:
            del self._lanes[lane.activation]
            return
        if not lane.activation.stream.known:
            self._locating.start(lane)
            return
        self._ready.append(lane)
        self._schedule()

    def _schedule(self) -> None:
        """Publish what is ready, not before the current step of the event loop has offered all that it has."""
        loop = asyncio.get_running_loop()
        at = loop.time() if len(self._ready) >= BATCH_COUNT else max(loop.time(), self._gather_until)
        if at < self._due_at:
            if self._timer is not None:
                self._timer.cancel()
            self._due_at, self._timer = at, loop.call_at(at, self._publish_ready)

    async def _locate(self, lane: Lane) -> bool:
        """Find out where the events of an object end in the stream. Return False if that has failed."""
        activation = lane.activation
        try:
            sequence, number = await self._bus.read_last(_scope(activation))
        except BusError as error:
            lane.attempts += 1
            self._problem = NOT_STORED
            log.warning(
                "%s: reading its last event failed, trying again: %s",
                activation.object_id,
                error,
                extra=activation.log_fields,
            )
            return False
        activation.stream = StreamPosition(True, sequence, number)
        self._settle(lane)
        return True

    def _publish_ready(self) -> None:
        self._due_at, self._timer = math.inf, None
        while not self._closed and self._has_batch():
            batch = self._take_batch()
            if batch:
                self._in_progress += 1
                self._note_rate(sum(len(events) for _, events in batch))
                self._batches.spawn(self._publish(batch))

    def _note_rate(self, count: int) -> None:
        """Decide for how long the next batch gathers, from the size of this one and the time since the last one."""
        now = asyncio.get_running_loop().time()
        elapsed, self._began = now - self._began, now
        if count >= SEVERAL and count * GATHER_FOR >= MANY * elapsed:
            self._gather_until = now + GATHER_FOR

    def _has_batch(self) -> bool:
        least = BATCH_COUNT if self._in_progress else 1
        return self._in_progress < BATCHES and len(self._ready) >= least

    def _take_batch(self) -> Batch:
        batch: Batch = []
        count = size = 0
        while self._ready and count < BATCH_COUNT and size < BATCH_BYTES:
            lane = self._ready.popleft()
            if lane.activation.broken:
                del self._lanes[lane.activation]
                continue
            events = _events(lane, min(BATCH_COUNT - count, OBJECT_COUNT), BATCH_BYTES - size)
            batch.append((lane, events))
            count, size = count + len(events), size + sum(len(event.payload) for event in events)
        return batch

    async def _publish(self, batch: Batch) -> None:
        events = [event for _, some in batch for event in some]
        began = perf_counter()
        stored: Sequence[int | Exception]
        try:
            stored = await self._bus.publish_batch(events)
        except Exception as error:
            log.exception("publishing events failed in an unexpected way")
            stored = [error] * len(events)
        finally:
            self._in_progress -= 1
        if tracing.recorder is not None:
            _trace(zip(events, stored, strict=True), began)
        results = iter(stored)
        for lane, some in batch:
            self._settle(lane, [(event, next(results)) for event in some])
        if self._ready:
            self._schedule()

    def _settle(self, lane: Lane, results: Results = ()) -> None:
        """Note what the bus has stored, and publish the rest: at once, or after a pause if an event has failed."""
        try:
            self._remove_sent(lane, self._note_position(lane, results))
        except Exception:
            log.exception("%s: settling its events failed", lane.activation.object_id, extra=lane.activation.log_fields)
            self._pause(lane)

    def _note_position(self, lane: Lane, results: Results) -> Exception | None:
        """Note where the object's events end. Return the failure of the first event that the bus has not stored."""
        now = self._clock.now()
        for event, result in results:
            if isinstance(result, Exception):
                _FAILED.inc()
                return result
            _PUBLISHED.inc()
            EVENT_LAG.observe(max(0.0, now - issued_at(event.number)))
            lane.activation.stream = StreamPosition(True, result, event.number)
            lane.attempts = lane.conflicts = 0
            self._problem = ""
        return None

    def _remove_sent(self, lane: Lane, failure: Exception | None) -> None:
        last = lane.activation.stream.number
        while lane.numbers and lane.numbers[0] <= last and not lane.activation.broken:
            self._on_sent(lane.activation, lane.numbers.popleft())
        if lane.activation.broken or not lane.numbers:
            del self._lanes[lane.activation]
        elif failure is None:
            self._start(lane)
        else:
            self._retry(lane, failure)

    def _retry(self, lane: Lane, failure: Exception) -> None:
        """Publish again after a pause. The first time that the order is refused, the position is read again at once."""
        lane.activation.stream = lane.activation.stream._replace(known=False)
        if isinstance(failure, OrderConflict):
            lane.conflicts += 1
            if lane.conflicts == 1:
                self._start(lane)
                return
            log.warning(
                "%s: the stream has another last event than it shows",
                lane.activation.object_id,
                extra=lane.activation.log_fields,
            )
        elif isinstance(failure, StreamFull):
            self._problem = "the event stream is full"
            log.error("the event stream is full: raise AIDEVOS_EVENTS_MAX_BYTES or lower AIDEVOS_EVENTS_MAX_AGE")
        else:
            self._problem = NOT_STORED
            log.warning(
                "%s: publishing events failed, trying again: %s",
                lane.activation.object_id,
                failure,
                extra=lane.activation.log_fields,
            )
        self._pause(lane)

    def _pause(self, lane: Lane) -> None:
        lane.attempts += 1
        call_after_pause(self._settle, lane)


def _trace(results: Iterable[tuple[Event, int | Exception]], began: float) -> None:
    """Record how events were published, in those of their traces that are sampled."""
    for event, result in results:
        segment = tracing.begin(trace_of(event.payload) or None)
        if isinstance(segment, Segment) and segment.sampled:
            segment.began = began
            name, attributes = describe_event(event.subject, "publish")
            error, failed = tracing.describe_error(result) if isinstance(result, Exception) else ("", False)
            attributes |= {"messaging.message.id": event.id}
            segment.end(name, "producer", attributes, error=error, failed=failed)


def _scope(activation: Activation) -> str:
    return subjects.events_of(activation.type.name, activation.id)


def _events(lane: Lane, count: int, size: int) -> list[Event]:
    """Return the next events of a lane, up to `count` of them or `size` bytes, and at least one."""
    activation, events = lane.activation, []
    scope, after = _scope(activation), activation.stream.sequence
    for number in islice(lane.numbers, count):
        entry = activation.outbox[number]
        payload = bytes(entry["payload"])
        events.append(Event(entry["subject"], payload, f"{activation.object_id}:{number}", number, scope, after))
        size -= len(payload)
        if size <= 0:
            break
    return events
