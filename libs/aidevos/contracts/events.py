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

    The extension `project` names the project of an object that belongs to one, and `traceparent` the trace in which the
    event happened (https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md).
    """

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    time: str
    datacontenttype: Literal["application/json"] = "application/json"
    data: Data
    project: str | msgspec.UnsetType = msgspec.UNSET
    traceparent: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def object_id(self) -> str:
        """The ID of the object that emitted the event, as `type:id`."""
        return self.source.rpartition("/")[2]


AnyEvent = CloudEvent[Any]


class _Traced(msgspec.Struct):
    traceparent: str = ""


_traced = msgspec.json.Decoder(_Traced)


def trace_of(event: bytes) -> str:
    """Return the `traceparent` of an encoded event, as the extension Distributed Tracing has it, or an empty string."""
    try:
        return _traced.decode(event).traceparent
    except msgspec.DecodeError:
        return ""


def is_pattern(text: str) -> bool:
    """True if this is `event.<type>.<id>.<name>`, with `*` for any part or `>` for all remaining ones."""
    return _pattern(text) is not None
