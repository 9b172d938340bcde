"""What management shows of a durable object, and how a type describes itself to the fleet."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

# The management methods that every type has; their names can't be those of a user's method.
CREATE = "_create"
READ = "_read"
REPLACE = "_replace"
DELETE = "_delete"
# An object goes with its project; for services.
VANISH = "_vanish"
# What the framework calls when an alarm rings, and when an object has come to its end.
ALARM = "_alarm"
EXPIRE = "_expire"
# The list is a query over committed state: `query.<type>.list`.
LIST = "list"

LIST_LIMIT = 500


class DurableObject(msgspec.Struct, kw_only=True):
    """An object as the management endpoints show it. `version` is its ETag; `state` is null where
    the type keeps it to itself; `project` is the one that the object belongs to; times are RFC 3339 in UTC."""

    object_id: str
    type: str
    id: str
    version: int
    state: dict[str, Any] | None
    status: Literal["active", "hibernated"]
    created_at: str
    updated_at: str
    project: str | None = None


class ObjectPage(msgspec.Struct, kw_only=True):
    """One page of a list; `next_cursor` is opaque, and null on the last page. `count`, where it was asked for, is
    that of all objects of the project; null is more than could be counted in time."""

    items: list[DurableObject]
    next_cursor: str | None = None
    count: int | msgspec.UnsetType | None = msgspec.UNSET


class SearchPage(msgspec.Struct, kw_only=True):
    """One page of a search; `next_cursor` is opaque, and null on the last page."""

    items: list[Any]
    next_cursor: str | None = None


class MethodDescription(msgspec.Struct, kw_only=True):
    """A method of a type; the schemas are JSON Schema 2020-12 with `#/$defs/…` references."""

    name: str
    kind: Literal["command", "query"]
    doc: str
    allow: str
    args: dict[str, Any]
    result: dict[str, Any]


class QueryDescription(msgspec.Struct, kw_only=True):
    """A search or a view of a type, at `query.<type>.<name>`; the schemas are as a method's."""

    name: str
    allow: str
    args: dict[str, Any]
    result: dict[str, Any]


class EventDescription(msgspec.Struct, kw_only=True):
    """An event that objects of a type publish; `data` is the schema of what it says."""

    name: str
    doc: str
    data: dict[str, Any]


class ReactionDescription(msgspec.Struct, kw_only=True):
    """Events that objects of a type receive: those of a NATS pattern, by one of the type's methods."""

    pattern: str
    method: str
    doc: str


class TypeDescription(msgspec.Struct, kw_only=True):
    """What a host announces of a type; the gateway's OpenAPI document is made of these.

    `management` is what the management endpoints may do: `raw` reads and writes the state,
    `lifecycle` creates and deletes but shows no state, `read_only` only reads. An `internal` type is a service's own
    machinery; documents and lists leave it out.
    """

    type: str
    doc: str
    management: Literal["raw", "lifecycle", "read_only"]
    state: dict[str, Any]
    methods: list[MethodDescription]
    defs: dict[str, Any]
    queries: list[QueryDescription] = []
    events: list[EventDescription] = []
    reactions: list[ReactionDescription] = []
    internal: bool = False
