"""The events of live streams, each as one frame of server-sent events (WHATWG HTML §9.2)."""

from __future__ import annotations

import msgspec

from aidevos.durable.bus.port import Delivery
from aidevos.feeds import shown_events
from aidevos.feeds.shown_events import ShownEvent


class LiveEvent(ShownEvent, frozen=True, kw_only=True):
    """An event with its frame and its `position` in the stream."""

    position: int
    frame: bytes


def read(delivery: Delivery) -> LiveEvent | None:
    """Return the event in a delivery, or None if it isn't an object's event, which no reader may see."""
    event = shown_events.parse_event(delivery.subject, delivery.payload)
    if event is None:
        return None
    text = _frame(event, event.payload, int(delivery.position))
    return LiveEvent(**msgspec.structs.asdict(event), position=int(delivery.position), frame=text)


def frame_with_item(event: LiveEvent, item: bytes) -> bytes:
    """Return an item's event as a frame with the encoded item in its data."""
    return _frame(event, shown_events.add_item(event, item), event.position)


def _frame(event: ShownEvent, payload: bytes, position: int) -> bytes:
    return frame(payload, event=f"{event.type}.{event.name}", id=f"{position}")


def frame(data: bytes, *, event: str, id: str = "") -> bytes:
    """Return an event as a frame; without `id`, the reader's position stays the same."""
    id_line = f"id: {id}\n" if id else ""
    lines = b"\n".join(b"data: " + line for line in data.splitlines())
    return f"{id_line}event: {event}\n".encode() + lines + b"\n\n"


def position_frame(position: int) -> bytes:
    """Return a frame that only tells the reader the position from which it can resume."""
    return b"id: %d\n\n" % position


def notice_frame(event: str, reason: str, detail: str) -> bytes:
    """Return a frame about the stream itself, such as `gap` or `end`."""
    return frame(msgspec.json.encode({"reason": reason, "detail": detail}), event=event)
