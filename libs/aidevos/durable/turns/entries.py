"""Outbox entries: events, tells and dead letters, which are committed with the state and sent afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import dead_letters, subjects
from aidevos.contracts.dead_letters import BURY, Letter
from aidevos.contracts.envelope import TRACEPARENT
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.client.client import NUMBER_BITS
from aidevos.durable.objects.declaration import Event

EVENTS_LANE = ""


class Entry(NamedTuple):
    """One message to send. `number` is its stable ID, and grows with each entry of the object."""

    number: int
    kind: str
    subject: str
    payload: bytes
    at: float
    # The `traceparent` of the turn that made it. An event has it in its payload.
    trace: str = ""

    @classmethod
    def from_document(cls, number: int, document: dict[str, Any]) -> Entry:
        payload, trace = bytes(document["payload"]), document.get("trace", "")
        return cls(number, document["kind"], document["subject"], payload, document["at"], trace)

    def to_document(self) -> dict[str, Any]:
        document = {"kind": self.kind, "subject": self.subject, "payload": self.payload, "at": self.at}
        if self.trace:
            document["trace"] = self.trace
        return document

    @property
    def lane(self) -> str:
        """The name of its lane. A lane sends one entry at a time: all events share one, and so do the tells to an
        object."""
        return EVENTS_LANE if self.kind == "event" else self.subject.rpartition(".")[0]


def next_number(last: int, now: float) -> int:
    """Return the number after `last`. Its upper bits are the time of issue."""
    return max(last + 1, int(now * 1000) << NUMBER_BITS)


def event_entry(
    type: str, id: str, number: int, event: Event, now: float, project: str | None = None, trace: str = ""
) -> Entry:
    """Return the entry of an event, in the JSON format of CloudEvents 1.0.

    The extension `project` names the project of an object that belongs to one, and `traceparent` the trace in which
    the event happened.
    """
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
    if trace:
        document[TRACEPARENT] = trace
    return Entry(number, "event", subjects.event(type, id, name), msgspec.json.encode(document), now)


def tell_entry(
    number: int, type: str, id: str, method: str, args: Mapping[str, Any], now: float, trace: str = ""
) -> Entry:
    return Entry(number, "tell", subjects.call(type, id, method), msgspec.json.encode(args), now, trace)


def letter_entry(number: int, letter: Letter) -> Entry:
    """Return the entry that sends a dead letter to its object."""
    subject = subjects.call(dead_letters.TYPE, letter.id, BURY)
    return Entry(number, "letter", subject, msgspec.msgpack.encode(letter), letter.at)
