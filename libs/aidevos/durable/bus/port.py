"""What the framework asks of an event bus.

Promise: an event that was published is kept for `AIDEVOS_EVENTS_MAX_AGE`, and reaches every group whose
pattern it matches and every follower, at least once, under an ID that is never used again. Whoever
drops what has an ID that it knows sees the events of one object in their order, each once.

A bus that guards its order (`guards_order`) takes an event only behind the one that the publisher knows as the
last of its scope (all events of one object), so each is stored once, whoever publishes and however often.
One that doesn't, such as RabbitMQ, may store an event again: each publisher sends the events of an object
as one run without gaps, so after dropping the repeats they still stand in their order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from aidevos.contracts.errors import Failure

# Deliveries of one event to a group, by default, before it is buried.
ATTEMPTS = 50
# Events that one member of a group has in hand, by default.
AT_ONCE = 128


class BusError(Failure):
    """The bus did not take or give an event; trying again may help."""

    def __init__(self, detail: str) -> None:
        super().__init__("unavailable", detail)


class StreamFull(BusError):
    """There is no room for another event until old ones have passed their age."""


class OrderConflict(Exception):
    """The scope's last event is another one than the publisher said."""


class PositionLost(Exception):
    """Of what followed the position, some isn't kept any more; or it is no position of this stream."""


class Delivery(NamedTuple):
    """An event as a reader gets it. `attempt` counts a group's deliveries from 1; `position` is where a follower
    has got it, for `follow(after=…)` on the same patterns: a number in decimal digits, which grows along the
    stream, not always by one."""

    subject: str
    payload: bytes
    id: str
    attempt: int = 1
    position: str = ""


Handler = Callable[[Delivery], Awaitable[None]]
Bury = Callable[[Delivery, Failure], Awaitable[None]]


class Subscription(Protocol):
    async def pause(self) -> None:
        """Take no more events, so that other members of the group get them; what is in hand is handled."""

    async def resume(self) -> None:
        """Take events again."""

    async def close(self) -> None:
        """Stop delivering; the group keeps its place."""


class EventBus(Protocol):
    guards_order: bool

    async def read_last(self, scope: str) -> tuple[int, int]:
        """Sequence and number of the last event of a scope; (0, 0) when there is none, or the bus doesn't guard.
        Raises `BusError`."""

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        """Store an event behind the one with sequence `after`; its own sequence, 0 when the bus doesn't guard.

        Raises `OrderConflict` when another event is the scope's last, `StreamFull`, or `BusError` when it isn't known
        whether the event was stored.
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
    ) -> Subscription:
        """Deliver each event that matches to one member of the group, from the moment on at which the group's
        first member came; a group keeps its place while nobody is subscribed. Raises `BusError`.

        An event is acknowledged when the handler returns. When it raises, the event comes again after a pause that
        grows with the attempts. A failure that isn't retryable, or the last attempt, makes it a dead letter: it is
        done when `bury` has returned. Events of one object are handled one after another, in their order; only
        one that is tried again may be overtaken by those behind it.
        """

    async def replay(self, pattern: str, group: str, delivery: Delivery) -> None:
        """Deliver a buried event again, to this group alone, as if for the first time. Raises `BusError`."""

    def follow(
        self, patterns: Sequence[str], *, since: float | None = None, after: str = ""
    ) -> AsyncGenerator[Delivery | None, None]:
        """Events without a group: those after a position, or from `since` on (seconds since the epoch, rounded
        down at will), or only new ones; then each as it is published. None comes once, when everything that was
        there at the beginning has been given. The patterns don't overlap. Raises `BusError` when reading can't
        go on; begin anew then. Raises `PositionLost` where not all is kept that followed a position.
        """

    async def find_end(self, patterns: Sequence[str]) -> str:
        """A position behind all that has been published, for following these patterns. Raises `BusError`."""

    async def close(self) -> None:
        """Let go of what the bus holds itself."""
