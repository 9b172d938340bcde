"""Events in the form that live streams and webhooks show."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from aidevos.contracts import projects, tasks
from aidevos.contracts.authentication import SESSION_TYPE
from aidevos.contracts.data import ITEM_TYPE

log = logging.getLogger(__name__)


class _CloudEvent(msgspec.Struct, omit_defaults=True):
    """A CloudEvent 1.0. The extension `project` names the project that the object belongs to."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    datacontenttype: str
    data: msgspec.Raw
    project: str = ""


class ItemChange(msgspec.Struct):
    collection: str
    id: str
    version: int
    owner: str = ""
    incarnation: str = ""


class _ShownChange(msgspec.Struct):
    """The part of an item's change that readers of the item see."""

    id: str
    collection: str
    version: int
    item: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ProjectData(msgspec.Struct):
    project: str


class UserData(msgspec.Struct):
    user: str = ""


# The parts of an event's data that decide who may see it.
_KNOWN: dict[str, type[msgspec.Struct]] = {ITEM_TYPE: ItemChange, tasks.TYPE: ProjectData, SESSION_TYPE: UserData}
_decoders = {name: msgspec.json.Decoder(type) for name, type in _KNOWN.items()}
_cloud_event = msgspec.json.Decoder(_CloudEvent)


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the form that readers see.

    `object` is the ID of the object that emitted it, and `project` the project that the object is or belongs to, or
    empty. `time` is when it happened, in RFC 3339. `payload` is the encoded CloudEvent. `about` is the decoded part of
    its data: an `ItemChange`, `ProjectData`, `UserData`, or None.
    """

    id: str
    type: str
    object: str
    name: str
    project: str
    time: str
    about: Any
    payload: bytes

    @property
    def shown_id(self) -> str:
        """The ID that users know: that of the item, or else of the object."""
        return self.about.id if isinstance(self.about, ItemChange) else self.object


def add_item(event: ShownEvent, item: bytes) -> bytes:
    """Return the encoded CloudEvent of an item's event with the encoded item in its data."""
    change, shown = event.about, _cloud_event.decode(event.payload)
    data = _ShownChange(change.id, change.collection, change.version, msgspec.Raw(item))
    shown.data = msgspec.Raw(msgspec.json.encode(data))
    return msgspec.json.encode(shown)


def parse_event(subject: str, payload: bytes) -> ShownEvent | None:
    """Return the event in its visible form, or None if it can't be decoded as an object's event."""
    try:
        _, type, object, name = subject.split(".")
        event = _cloud_event.decode(payload)
        about = _decoders[type].decode(event.data) if type in _decoders else None
    except (ValueError, msgspec.DecodeError) as error:
        log.warning("decoding an event on %s failed: %s", subject, error)
        return None
    if isinstance(about, ItemChange):
        shown = _ShownChange(about.id, about.collection, about.version)
        event.data = msgspec.Raw(msgspec.json.encode(shown))
    project = object if type == projects.TYPE else event.project
    if isinstance(about, ProjectData):
        project = about.project
    return ShownEvent(
        id=event.id,
        type=type,
        object=object,
        name=name,
        project=project,
        time=event.time,
        about=about,
        payload=msgspec.json.encode(event),
    )
