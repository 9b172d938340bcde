"""Published events: CloudEvents 1.0 in JSON (https://github.com/cloudevents/spec, §3.1)."""

from __future__ import annotations

import re
from typing import Any, Generic, Literal, TypeVar

import msgspec

from aidevos.contracts import subjects

Data = TypeVar("Data")
_pattern = re.compile(
    rf"event\.(>|({subjects.TYPE_PATTERN}|\*)\.(>|({subjects.ID_PATTERN}|\*)\.(>|[a-z][a-z0-9_]*|\*)))"
).fullmatch


class CloudEvent(msgspec.Struct, Generic[Data], kw_only=True):
    """An event of an object.

    `source` is `/durable-objects/<type>:<id>`, `type` is `<type>.<name>`, `time` is RFC 3339 in UTC,
    and the object's type defines `data`.
    """

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: Data

    @property
    def object_id(self) -> str:
        """The ID of the object that emitted the event, as `type:id`."""
        return self.source.rpartition("/")[2]


AnyEvent = CloudEvent[Any]


def is_pattern(text: str) -> bool:
    """True if this is `event.<type>.<id>.<name>`, with `*` for any part or `>` for all remaining ones."""
    return _pattern(text) is not None
