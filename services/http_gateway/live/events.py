"""Events as live streams show them: one frame of server-sent events each (WHATWG HTML §9.2)."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import msgspec

from aidevos.contracts import projects, tasks
from aidevos.contracts.authentication import SESSION_TYPE
from aidevos.contracts.data import ITEM_TYPE
from aidevos.durable.bus.port import Delivery

log = logging.getLogger(__name__)


class _CloudEvent(msgspec.Struct):
    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    data: msgspec.Raw


class ItemChange(msgspec.Struct):
    collection: str
    id: str
    version: int
    owner: str = ""
    incarnation: str = ""


class _ShownChange(msgspec.Struct):
    """What of an item's change is for those who may read the item."""

    id: str
    collection: str
    version: int


class OfProject(msgspec.Struct):
    project: str


class OfUser(msgspec.Struct):
    user: str = ""


# What has to be known of an event's data to judge who may see it.
_KNOWN: dict[str, type[msgspec.Struct]] = {ITEM_TYPE: ItemChange, tasks.TYPE: OfProject, SESSION_TYPE: OfUser}
_decoders = {name: msgspec.json.Decoder(type) for name, type in _KNOWN.items()}
_cloud_event = msgspec.json.Decoder(_CloudEvent)


class LiveEvent(NamedTuple):
    """`position` is where it stands in the stream, `object` the ID of the object whose event it is, and
    `about` what is known of its data: an `ItemChange`, `OfProject`, `OfUser`, or nothing."""

    position: int
    id: str
    type: str
    object: str
    name: str
    about: Any
    frame: bytes

    @property
    def shown_id(self) -> str:
        """The ID that users know: that of an item, or of the object."""
        return self.about.id if isinstance(self.about, ItemChange) else self.object

    @property
    def project(self) -> str:
        """The project whose event it is; empty for other types."""
        if self.type == projects.TYPE:
            return self.object
        return self.about.project if isinstance(self.about, OfProject) else ""


def read(delivery: Delivery) -> LiveEvent | None:
    """The event as it is shown; None for what is no event of an object, which nobody gets to see."""
    try:
        _, type, object, name = delivery.subject.split(".")
        event = _cloud_event.decode(delivery.payload)
        about = _decoders[type].decode(event.data) if type in _decoders else None
    except (ValueError, msgspec.DecodeError) as error:
        log.warning("an event on %s can't be read: %s", delivery.subject, error)
        return None
    if isinstance(about, ItemChange):
        shown = _ShownChange(about.id, about.collection, about.version)
        event.data = msgspec.Raw(msgspec.json.encode(shown))
    payload = msgspec.json.encode(event)
    text = frame(payload, event=f"{type}.{name}", id=delivery.position)
    return LiveEvent(int(delivery.position), event.id, type, object, name, about, text)


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
