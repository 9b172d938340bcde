"""Events as live streams show them: one frame of server-sent events each (WHATWG HTML §9.2)."""

from __future__ import annotations

import msgspec

from aidevos.durable.bus.port import Delivery
from aidevos.feeds import shown_events
from aidevos.feeds.shown_events import ShownEvent


class LiveEvent(ShownEvent, frozen=True, kw_only=True):
    """`position` is where it stands in the stream."""

    position: int
    frame: bytes


def read(delivery: Delivery) -> LiveEvent | None:
    """The event as it is shown; None for what is no event of an object, which nobody gets to see."""
    event = shown_events.parse_event(delivery.subject, delivery.payload)
    if event is None:
        return None
    text = frame(event.payload, event=f"{event.type}.{event.name}", id=delivery.position)
    return LiveEvent(**msgspec.structs.asdict(event), position=int(delivery.position), frame=text)


def frame(data: bytes, *, event: str, id: str = "") -> bytes:
    """An event for the reader; without `id` the reader's place in the stream stays."""
    place = f"id: {id}\n" if id else ""
    lines = b"\n".join(b"data: " + line for line in data.splitlines())
    return f"{place}event: {event}\n".encode() + lines + b"\n\n"


def place(position: int) -> bytes:
    """Tells a reader its place in the stream, from which it resumes, and nothing else."""
    return b"id: %d\n\n" % position


def told(event: str, reason: str, detail: str) -> bytes:
    """Something about the stream itself."""
    return frame(msgspec.json.encode({"reason": reason, "detail": detail}), event=event)
