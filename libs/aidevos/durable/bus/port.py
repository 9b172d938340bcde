"""The port to the event bus.

Promise: a published event is kept for `AIDEVOS_EVENTS_MAX_AGE`. It reaches every follower, and every group whose
pattern it matches, at least once, under an ID that is never reused. A reader that drops IDs it has already seen gets
each event of an object once, in order.

The scope of an event is all events of its object. A bus that guards the order (`guards_order`) accepts an event only
directly after the one that the publisher knows as the last of its scope. So each event is stored once, whoever
publishes it and however often. A bus that doesn't, such as RabbitMQ, may store an event again. Each publisher sends the
events of an object as one run without gaps, so they are still in order once repeats are dropped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from aidevos.contracts.errors import Failure

# Default number of deliveries of an event to a group before it becomes a dead letter.
ATTEMPTS = 50
# Default number of unsettled events that one member of a group holds.
AT_ONCE = 128


class BusError(Failure):
    """Raised when the bus did not accept or deliver an event. A retry may succeed."""

    def __init__(self, detail: str) -> None:
        super().__init__("unavailable", detail)


class StreamFull(BusError):
    """Raised when the stream is full. There is room again once old events have expired."""


class OrderConflict(Exception):
    """Raised when the scope's last event isn't the one that the publisher expected."""


class PositionLost(Exception):
    """Raised when events after the position are no longer kept, or the position is not one of this stream."""


class Delivery(NamedTuple):
    """An event as delivered to a reader.

    `attempt` counts deliveries to a group from 1. `position` is a follower's position, for `follow(after=…)` with the
    same patterns. It is a decimal number that grows along the stream, not always by one.
    """

    subject: str
    payload: bytes
    id: str
    attempt: int = 1
    position: str = ""


class Event(NamedTuple):
    """An event to publish: the one with this `number` in its scope, directly after the one with sequence `after`."""

    subject: str
    payload: bytes
    id: str
    number: int
    scope: str
    after: int


Handler = Callable[[Delivery], Awaitable[None]]
Bury = Callable[[Delivery, Failure], Awaitable[None]]


class Subscription(Protocol):
    """One member of a group."""

    async def pause(self) -> None:
        """Take no more events, so that other members get them. Events already taken are still handled."""

    async def resume(self) -> None:
        """Take events again."""

    async def close(self) -> None:
        """Stop handling events. The group keeps its position."""


class EventBus(Protocol):
    """Publishes events and delivers them to groups and followers."""

    guards_order: bool

    async def read_last(self, scope: str) -> tuple[int, int]:
        """Return the sequence and the number of a scope's last event.

        They are (0, 0) if the scope has no events, or if the bus doesn't guard the order. Raises `BusError`.
        """

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        """Store an event after the one with sequence `after`.

        Return the event's own sequence, or 0 if the bus doesn't guard the order.
        `number` is the event's number within its scope. Raises `OrderConflict` if the scope's last event is another
        one, `StreamFull`, or `BusError` if it is unknown whether the event was stored.
        """

    async def publish_batch(self, events: Sequence[Event]) -> list[int | Exception]:
        """Store events together, which costs less than one by one.

        Return for each event its sequence, or the exception that `publish` would raise. Events of one scope are
        adjacent and in order: `after` counts for the first of them, and each of the others follows the one before it.
        """

    async def subscribe(
        self,
        pattern: str,
        group: str,
        handler: Handler,
        bury: Bury,
        *,
        attempts: int = ATTEMPTS,
        at_once: int = AT_ONCE,
        only: Sequence[str] | None = None,
    ) -> Subscription:
        """Deliver each matching event to one member of the group; with `only`, as if `select` had been called before.

        A group gets the events published since its first member subscribed, and keeps its position while it has no
        members. Raises `BusError`.

        An event is settled when the handler returns. If the handler raises, the event is delivered again after a pause
        that grows with the attempts. After the last attempt, or a failure that isn't retryable, the event becomes a
        dead letter and is settled when `bury` returns. Events of one object are handled one at a time, in order. Only a
        retried event may be overtaken by later ones.

        A member handles at most `at_once` events concurrently.
        """

    async def select(self, pattern: str, group: str, wanted: Sequence[str]) -> None:
        """Deliver to a group only events that match one of these patterns, which lie within its own and don't overlap.

        This holds for all events that are published from now on. Of earlier ones, those of patterns that weren't wanted
        before may be delivered or not. A bus may deliver other events as well. Raises `BusError`.
        """

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        """Deliver a dead letter's event to this group again, as if for the first time. Raises `BusError`."""

    def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        """Yield the events that match any of the patterns, which must not overlap, outside any group.

        Reading starts after the position `after`, or at `since` (seconds since the epoch; it may start earlier), or
        with the next new event. None is yielded once, after all events that existed at the start. Raises `BusError` if
        reading can't continue, and `PositionLost` if not every event after the position is still kept.
        """

    async def find_end(self, patterns: Sequence[str]) -> str:
        """Return a position after everything published so far, to follow these patterns from. Raises `BusError`."""

    async def complete_since(self, patterns: Sequence[str]) -> float:
        """Return a time, in seconds since the epoch, since which every event of these patterns is kept.

        Events from before it may be lost: the stream didn't exist, was purged, or has dropped them. The time grows as
        events expire. Raises `BusError`.
        """

    async def close(self) -> None:
        """Release what the bus has opened itself."""
