"""The outbox: events and tells that were committed with the state, and the relay that sends them.

Promise: what a commit holds in its outbox is sent at least once, under an ID that is never used
again, in the object's order: also after a crash. An event is published only while the stream's last
message of the object is the one that this relay knows of, so a paused relay can neither repeat nor
reorder. A tell is repeated under one request ID until its object has settled it. What can't be
delivered becomes a dead letter, and stays in the outbox until that is stored; nothing is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aidevos.contracts import dead_letters, subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.errors import Failure
from aidevos.durable.base.backoff import Backoff
from aidevos.durable.base.clock import Clock, rfc3339_of
from aidevos.durable.bus.port import EventBus, Misplaced, StreamFull
from aidevos.durable.client.client import NUMBER_BITS, Outside, issued_at
from aidevos.durable.delivery.dead_letters import BURY, bury
from aidevos.durable.turns.request import TELL_PREFIX, digest

if TYPE_CHECKING:
    from aidevos.durable.objects.object import Event
    from aidevos.durable.turns.activation import Activation

log = logging.getLogger(__name__)
BACKOFF = Backoff(0.05, 5.0)
TELL_DEADLINE = 10.0
EVENTS_LANE = ""
# Refusals that a deployment under way explains: the tell is repeated until it is too old.
PASSING = {"deadline-exceeded", "unauthenticated", "unknown-type", "unknown-method"}


class Entry(NamedTuple):
    """One thing to send. `number` grows with every entry of the object and is its stable ID."""

    number: int
    kind: str
    subject: str
    payload: bytes
    at: float

    def to_document(self) -> dict[str, Any]:
        return {"kind": self.kind, "subject": self.subject, "payload": self.payload, "at": self.at}

    @property
    def lane(self) -> str:
        """Entries of one lane are sent one after another: all events, and the tells to each object."""
        return EVENTS_LANE if self.kind == "event" else self.subject.rpartition(".")[0]


def next_number(last: int, now: float) -> int:
    """The number after `last`; its upper bits are the time of issue."""
    return max(last + 1, int(now * 1000) << NUMBER_BITS)


def event_entry(type: str, id: str, number: int, event: Event, now: float, project: str | None = None) -> Entry:
    """An event as CloudEvents 1.0 in JSON; of an object that belongs to a project with that as an extension."""
    name = event.event_name()
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"{type}:{id}:{number}",
        "source": f"/durable-objects/{type}:{id}",
        "type": f"{type}.{name}",
        "time": rfc3339_of(now),
        "datacontenttype": "application/json",
        "data": event,
    }
    if project is not None:
        document["project"] = project
    return Entry(number, "event", subjects.event(type, id, name), msgspec.json.encode(document), now)


def tell_entry(number: int, type: str, id: str, method: str, args: Mapping[str, Any], now: float) -> Entry:
    return Entry(number, "tell", subjects.call(type, id, method), msgspec.json.encode(args), now)


def letter_entry(number: int, letter: Letter) -> Entry:
    """A dead letter on its way to where it is kept."""
    subject = subjects.call(dead_letters.TYPE, letter.id, BURY)
    return Entry(number, "letter", subject, msgspec.msgpack.encode(letter), letter.at)


class Relay:
    """Sends the outboxes of the activations of one host."""

    def __init__(
        self,
        bus: EventBus,
        outside: Outside,
        clock: Clock,
        *,
        tell_age: float,
        hides: Callable[[str, str], bool],
        settled: Callable[[Activation, int], None],
    ) -> None:
        self._bus = bus
        self._outside = outside
        self._clock = clock
        self._tell_age = tell_age
        self._hides = hides
        self._settled = settled
        self._lanes: dict[tuple[Activation, str], asyncio.Task[None]] = {}
        self._queues: dict[tuple[Activation, str], list[int]] = {}

    def offer(self, activation: Activation, numbers: list[int]) -> None:
        """Send committed entries of an activation, in the order of their numbers."""
        for number in numbers:
            entry = _entry(activation, number)
            lane = (activation, entry.lane)
            self._queues.setdefault(lane, []).append(number)
            if lane not in self._lanes:
                task = asyncio.get_running_loop().create_task(self._run(lane))
                self._lanes[lane] = task

    async def close(self) -> None:
        """Stop sending; what is left stays in the outboxes."""
        tasks = list(self._lanes.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, lane: tuple[Activation, str]) -> None:
        activation, _ = lane
        queue = self._queues[lane]
        try:
            while queue and not activation.broken:
                entry = _entry(activation, queue[0])
                await self._deliver(activation, entry)
                queue.pop(0)
                if not activation.broken:
                    self._settled(activation, entry.number)
        finally:
            del self._lanes[lane], self._queues[lane]

    async def _deliver(self, activation: Activation, entry: Entry) -> None:
        place, pauses, attempts = activation.place, BACKOFF.pauses(), 0
        while not activation.broken:
            attempts += 1
            try:
                if entry.kind == "event":
                    await self._publish(activation, entry)
                elif entry.kind == "letter":
                    await bury(self._outside, msgspec.msgpack.decode(entry.payload, type=Letter))
                else:
                    await self._tell(activation, entry, attempts)
                return
            except Misplaced:
                place.known = False
                await asyncio.sleep(0)
                continue
            except StreamFull:
                log.error("the event stream is full: raise AIDEVOS_EVENTS_MAX_BYTES or lower AIDEVOS_EVENTS_MAX_AGE")
            except Exception as error:
                log.warning("%s: sending to %s failed, trying again: %s", activation.object_id, entry.subject, error)
            place.known = False
            await pauses.wait()

    async def _publish(self, activation: Activation, entry: Entry) -> None:
        scope, place = subjects.events_of(activation.type.name, activation.id), activation.place
        if not place.known:
            place.sequence, place.number = await self._bus.last(scope)
            place.known = True
        if place.number >= entry.number:
            return
        event_id = f"{activation.object_id}:{entry.number}"
        place.sequence = await self._bus.publish(
            entry.subject, entry.payload, event_id, number=entry.number, scope=scope, after=place.sequence
        )
        place.number = entry.number

    async def _tell(self, activation: Activation, entry: Entry, attempts: int) -> None:
        if issued_at(entry.number) < self._clock.now() - self._tell_age:
            late = Failure("unavailable", "the tell was not settled in time")
            await self._bury(activation, entry, attempts - 1, late)
            return
        request_id = f"{TELL_PREFIX}{entry.number}.{digest(activation.object_id)}"
        try:
            await self._outside.request(entry.subject, entry.payload, request_id=request_id, deadline=TELL_DEADLINE)
        except Failure as failure:
            if failure.retryable or failure.code in PASSING:
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
            confidential=self._hides(type, method),
        )
        await bury(self._outside, letter)


def _entry(activation: Activation, number: int) -> Entry:
    document = activation.outbox[number]
    return Entry(number, document["kind"], document["subject"], bytes(document["payload"]), document["at"])
