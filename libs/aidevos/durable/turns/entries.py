"""Entries of an outbox: events, tells and dead letters that are committed with the state and sent afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import dead_letters, subjects
from aidevos.contracts.dead_letters import BURY, Letter
from aidevos.contracts.times import rfc3339_of
from aidevos.durable.client.client import NUMBER_BITS
from aidevos.durable.objects.declaration import Event

EVENTS_LANE = ""


class Entry(NamedTuple):
    """One thing to send. `number` grows with every entry of the object and is its stable ID."""

    number: int
    kind: str
    subject: str
    payload: bytes
    at: float

    @classmethod
    def from_document(cls, number: int, document: dict[str, Any]) -> Entry:
        return cls(number, document["kind"], document["subject"], bytes(document["payload"]), document["at"])

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
