"""What the framework asks of an event bus.

An event is published under an ID that is never used again, and only if the last event of its scope
(all events of one object) is the one that the publisher knows of. So events of one object stand in
their order, each once, whoever publishes and however often.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from aidevos.contracts.errors import Failure


class BusError(Failure):
    """The bus did not take or give an event; trying again may help."""

    def __init__(self, detail: str) -> None:
        super().__init__("unavailable", detail)


class StreamFull(BusError):
    """There is no room for another event until old ones have passed their age."""


class Misplaced(Exception):
    """The scope's last event is another one than the publisher said."""


class Delivery(NamedTuple):
    """An event as a subscriber gets it; `attempt` counts from 1."""

    subject: str
    payload: bytes
    id: str
    sequence: int
    attempt: int


Handler = Callable[[Delivery], Awaitable[None]]


class Subscription(Protocol):
    async def close(self) -> None:
        """Stop delivering; the group keeps its place."""


class EventBus(Protocol):
    async def last(self, scope: str) -> tuple[int, int]:
        """Sequence and number of the last event of a scope; (0, 0) when there is none. Raises `BusError`."""

    async def publish(self, subject: str, payload: bytes, id: str, *, number: int, scope: str, after: int) -> int:
        """Store an event behind the one with sequence `after`; its own sequence.

        Raises `Misplaced` when another event is the scope's last, `StreamFull`, or `BusError` when it isn't known
        whether the event was stored.
        """

    async def subscribe(self, pattern: str, group: str, handler: Handler) -> Subscription:
        """Deliver every event that matches, from the first one kept, to one member of the group.

        An event is done when the handler returns; when it raises, the event is delivered again
        after a pause. A group keeps its place while nobody is subscribed.
        """
