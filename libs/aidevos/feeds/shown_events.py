"""Events as those see them who may know of them: on live streams, and by webhooks."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from aidevos.contracts import projects, tasks
from aidevos.contracts.authentication import SESSION_TYPE
from aidevos.contracts.data import ITEM_TYPE

log = logging.getLogger(__name__)


class _CloudEvent(msgspec.Struct, omit_defaults=True):
    """`project` is an extension: the one that the object belongs to."""

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


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`object` is the ID of the object whose event it is, `project` the project that it is or belongs to, if any,
    `payload` the CloudEvent as it is shown, and `about` what is known of its data: an `ItemChange`, `OfProject`,
    `OfUser`, or nothing."""

    id: str
    type: str
    object: str
    name: str
    project: str
    about: Any
    payload: bytes

    @property
    def shown_id(self) -> str:
        """The ID that users know: that of an item, or of the object."""
        return self.about.id if isinstance(self.about, ItemChange) else self.object


def read(subject: str, payload: bytes) -> ShownEvent | None:
    """The event as it is shown; None for what is no event of an object, which nobody gets to see."""
    try:
        _, type, object, name = subject.split(".")
        event = _cloud_event.decode(payload)
        about = _decoders[type].decode(event.data) if type in _decoders else None
    except (ValueError, msgspec.DecodeError) as error:
        log.warning("an event on %s can't be read: %s", subject, error)
        return None
    if isinstance(about, ItemChange):
        shown = _ShownChange(about.id, about.collection, about.version)
        event.data = msgspec.Raw(msgspec.json.encode(shown))
    project = object if type == projects.TYPE else event.project
    if isinstance(about, OfProject):
        project = about.project
    return ShownEvent(
        id=event.id,
        type=type,
        object=object,
        name=name,
        project=project,
        about=about,
        payload=msgspec.json.encode(event),
    )
