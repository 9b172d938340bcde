"""A tell as the stream keeps it, and the dead letter that it may become."""

from __future__ import annotations

from typing import NamedTuple

from aidevos.contracts import envelope, subjects
from aidevos.contracts.dead_letters import Letter, letter_id
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import Principal

MESSAGE_ID = "Nats-Msg-Id"


class Tell(NamedTuple):
    """A stored tell. `at` is the time at which it was stored, in seconds since the epoch."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    sequence: int
    at: float

    @property
    def target(self) -> str:
        """The subject without its prefix: `<type>.<id>.<method>` if it is well formed."""
        return subjects.tell_target(self.subject)

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        return len(self.payload) + sum(len(name) + len(value) for name, value in self.headers.items())

    @property
    def key(self) -> str:
        """A permanent name. It includes the time, because a recreated stream counts from 1 again."""
        return f"{self.sequence}.{int(self.at * 1000)}"

    @property
    def request_id(self) -> str:
        return self.headers.get(envelope.REQUEST_ID) or self.headers.get(MESSAGE_ID) or f"stored.{self.key}"


class Place(NamedTuple):
    """The position of a delivered tell, as the server gives it.

    `delivered` is its number among the deliveries of its consumer, and `at` the time at which it was stored.
    """

    sequence: int
    delivered: int
    at: float


def read_place(reply: str) -> Place:
    """Return the place of a delivered tell from its reply subject.

    That is `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<delivered>.<nanoseconds>.<left>`, or has two more words
    after `ACK`, and perhaps one at its end (NATS ADR-15).
    """
    words = reply.split(".")
    sequence, delivered, nanoseconds = words[5:8] if len(words) == 9 else words[7:10]
    return Place(int(sequence), int(delivered), int(nanoseconds) / 1e9)


def make_letter(tell: Tell, failure: Failure, *, now: float, attempts: int, caller: Principal, hidden: bool) -> Letter:
    """Return the dead letter of a tell, without its credential. `hidden` marks confidential arguments."""
    return Letter(
        id=letter_id("stored", tell.key),
        kind="tell",
        source=caller.subject[:200],
        subject=f"do.{tell.target}",
        payload=tell.payload,
        code=failure.code,
        detail=failure.detail,
        attempts=attempts,
        at=now,
        content_type=tell.headers.get(envelope.CONTENT_TYPE, ""),
        confidential=hidden,
        from_client=not caller.is_service,
    )
