"""The relay, which sends the outbox entries that were committed with the state: events, tells and dead letters.

Promise: every committed outbox entry is sent at least once, in the object's order and under an ID that is never
reused, even after a crash. Events go to the bus through the `EventPublisher`. A tell is repeated under one request ID
until its object has settled it. An undeliverable entry becomes a dead letter, and stays in the outbox until that
letter is stored. Nothing is dropped.

The tells to each type have their own `Senders`, so a type that doesn't answer delays nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from aidevos.contracts import envelope
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.envelope import TELL_PREFIX
from aidevos.contracts.errors import Failure
from aidevos.durable.base.clock import Clock
from aidevos.durable.bus.port import EventBus
from aidevos.durable.client.client import ObjectCaller, describe_call, issued_at
from aidevos.durable.delivery.dead_letters import bury
from aidevos.durable.delivery.event_publisher import EventPublisher
from aidevos.durable.delivery.lanes import Lane, Senders
from aidevos.durable.delivery.tell_meter import count_done, count_failed
from aidevos.durable.turns.activation import Activation
from aidevos.durable.turns.entries import Entry
from aidevos.durable.turns.headers import digest
from aidevos.observability import tracing

log = logging.getLogger(__name__)
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
        self._client = client
        self._clock = clock
        self._tell_age = tell_age
        self._is_confidential = is_confidential
        self._on_sent = on_sent
        self._events = EventPublisher(bus, clock, on_sent)
        self._lanes: dict[tuple[Activation, str], Lane] = {}
        self._senders: dict[str, Senders] = {}

    def offer(self, activation: Activation, numbers: list[int]) -> None:
        """Queue committed entries of an activation, in the order of their numbers."""
        for number in numbers:
            entry = _entry(activation, number)
            if entry.kind == "event":
                self._events.offer(activation, number)
                continue
            lane = self._lanes.get((activation, entry.lane))
            if lane is None:
                lane = self._lanes[activation, entry.lane] = Lane(activation, entry.lane)
                lane.numbers.append(number)
                self._senders_of(entry).start(lane)
            else:
                lane.numbers.append(number)

    def find_bus_problem(self) -> str:
        """Return why events can't be published, or an empty string."""
        return self._events.find_problem()

    async def close(self) -> None:
        """Stop sending. Unsent entries stay in the outboxes."""
        await asyncio.gather(self._events.close(), *(senders.close() for senders in self._senders.values()))

    def _senders_of(self, entry: Entry) -> Senders:
        type = entry.subject.split(".")[1]
        if type not in self._senders:
            self._senders[type] = Senders(self._send)
        return self._senders[type]

    async def _send(self, lane: Lane) -> bool:
        """Send the entries of a lane. Return False if one has failed, which is repeated after a pause."""
        activation = lane.activation
        while lane.numbers and not activation.broken:
            entry = _entry(activation, lane.numbers[0])
            lane.attempts += 1
            if not await self._deliver(lane, entry):
                return False
            lane.attempts = 0
            lane.numbers.popleft()
            if not activation.broken:
                self._on_sent(activation, entry.number)
        del self._lanes[activation, lane.name]
        return True

    async def _deliver(self, lane: Lane, entry: Entry) -> bool:
        """Try to deliver an entry; return False if that has failed."""
        activation = lane.activation
        try:
            if entry.kind == "letter":
                await bury(self._client, msgspec.msgpack.decode(entry.payload, type=Letter))
            else:
                await self._tell(activation, entry, lane.attempts)
        except Exception as error:
            log.warning(
                "%s: sending to %s failed, trying again: %s",
                activation.object_id,
                entry.subject,
                error,
                extra=activation.log_fields,
            )
            return False
        return True

    async def _tell(self, activation: Activation, entry: Entry, attempts: int) -> None:
        _, type, _, method = entry.subject.split(".")
        if issued_at(entry.number) < self._clock.now() - self._tell_age:
            late = Failure("unavailable", "the tell was not applied in time")
            count_failed(type, method, late, "buried")
            await self._bury(activation, entry, attempts - 1, late)
            return
        request_id = f"{TELL_PREFIX}{entry.number}.{digest(activation.object_id)}"
        # A lane sends one entry at a time, so those before this one are settled.
        settled = {envelope.REQUEST_ACK: str(entry.number)}
        try:
            with tracing.joining(entry.trace, "producer", describe_tell, entry.subject):
                await self._client.request(
                    entry.subject, entry.payload, request_id=request_id, deadline=TELL_DEADLINE, headers=settled
                )
        except Failure as failure:
            count_failed(type, method, failure, "failed" if failure.is_transient else "buried")
            if failure.is_transient:
                raise
            await self._bury(activation, entry, attempts, failure)
        else:
            count_done(type, method, self._clock.now() - issued_at(entry.number))

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


def describe_tell(subject: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the attributes of the span of a tell."""
    name, attributes = describe_call(subject)
    return name.replace("call ", "tell ", 1), attributes | {"messaging.operation.name": "tell"}


def _entry(activation: Activation, number: int) -> Entry:
    return Entry.from_document(number, activation.outbox[number])
