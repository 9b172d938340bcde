"""Durable objects as management shows them, and the description that a type announces to the fleet."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

# The management methods that every type has; a user's method can't have these names.
CREATE = "_create"
READ = "_read"
REPLACE = "_replace"
DELETE = "_delete"
# Those of types with the option `history`.
VERSIONS = "_versions"
READ_VERSION = "_read_version"
COMPARE = "_compare_versions"
RESTORE = "_restore"
# What an object has yet to do, and its departure from memory; for operators.
PENDING = "_pending"
HIBERNATE = "_hibernate"
# Deletes an object together with its project; for services.
VANISH = "_vanish"
# The permission to export, load and migrate objects. Of a type whose `management` is `read_only`, only the owner of the
# fleet exports and loads objects.
TRANSFER = "objects:transfer"
# Makes an object what was stored elsewhere, or only checks that.
LOAD = "_load"
CHECK = "_check"
# Stores the state in today's schema.
MIGRATE = "_migrate"
# Queries over committed states: `query.<type>._export` and `query.<type>._older`.
EXPORT = "_export"
OLDER = "_older"
# The methods that the framework calls when an alarm is due and when an object expires.
ALARM = "_alarm"
EXPIRE = "_expire"
# The list is a query over committed state: `query.<type>.list`.
LIST = "list"

LIST_LIMIT = 500


class DurableObject(msgspec.Struct, kw_only=True):
    """An object as the management endpoints show it.

    `version` is its ETag. `state` is null if the type doesn't show it. `project` is the project that
    the object belongs to. Times are RFC 3339 in UTC.
    """

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
    """One page of a list; `next_cursor` is opaque, and null on the last page.

    `count`, if requested, is the number of all objects on all pages; null means that there were too many to count in
    time. `left_out` are types whose objects are missing, because no process serves them at the moment.
    """

    items: list[DurableObject]
    next_cursor: str | None = None
    count: int | msgspec.UnsetType | None = msgspec.UNSET
    left_out: list[str] | msgspec.UnsetType = msgspec.UNSET


class StoredObject(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One object, as a line of an export has it.

    `schema` is the version of the state's schema. `version` and `updated_at` are for people: a loaded object goes on
    with its own version. `alarms` are its alarms as its document has them, with payloads in base64.
    """

    type: str
    id: str
    state: dict[str, Any]
    schema: int = 1
    version: int = 0
    project: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    alarms: dict[str, Any] | None = None

    @property
    def object_id(self) -> str:
        return f"{self.type}:{self.id}"


class ExportPage(msgspec.Struct, kw_only=True):
    """Some objects as they were at a `moment`, sorted by ID; the last page has none."""

    items: list[StoredObject]
    moment: str


class LoadedLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The result of one line of an import, numbered from 1.

    `outcome` is what became of the object, or with a dry run what would. Without it, `problem` says what was wrong.
    `status` is that of a request for this line alone.
    """

    line: int = 0
    status: int
    object_id: str | None = None
    outcome: Literal["created", "replaced", "skipped"] | None = None
    problem: dict[str, Any] | None = None


class MigrateBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /durable-objects/{type}/migrate`: the `schema` to reach, and the objects to examine."""

    schema: Annotated[int, Meta(ge=1, le=2**31)]
    limit: Annotated[int, Meta(ge=1, le=LIST_LIMIT)] = 100
    cursor: str | None = None


class Unmigrated(msgspec.Struct, kw_only=True):
    """An object whose state wasn't rewritten, and the reason."""

    object_id: str
    code: str
    detail: str


class MigratedPage(msgspec.Struct, kw_only=True):
    """How many objects were examined, how many of them were rewritten, and those that failed.

    The next page begins at `next_cursor`, which is null on the last page.
    """

    examined: int
    migrated: int
    failed: list[Unmigrated]
    next_cursor: str | None = None


class OlderPage(msgspec.Struct, kw_only=True):
    """The IDs of those of `examined` objects whose states have an older schema.

    The next page begins after the ID `next_cursor`, which is null on the last page.
    """

    ids: list[str]
    examined: int
    next_cursor: str | None = None


class ObjectVersion(msgspec.Struct, kw_only=True):
    """One version of an object in its history.

    `caller` made it at this time with a call of `method`, as the request `request_id`. They are empty for a version
    that was made before the type kept a history. `deleted` marks the version that a deletion made.
    """

    version: int
    at: str
    caller: str
    method: str
    request_id: str
    schema_version: int
    deleted: bool = False


class VersionState(ObjectVersion, kw_only=True):
    """One version with its state by today's schema, which is null for a deletion."""

    state: dict[str, Any] | None


class VersionPage(msgspec.Struct, kw_only=True):
    """One page of a history, the newest version first; `next_cursor` is null on the last page."""

    items: list[ObjectVersion]
    next_cursor: str | None = None


class Comparison(msgspec.Struct, kw_only=True):
    """Two versions, and the JSON patch (RFC 6902) that makes the state of `after` of that of `before`."""

    before: int
    after: int
    patch: list[dict[str, Any]]


class PendingAlarm(msgspec.Struct, kw_only=True):
    """An alarm of an object, without its payload.

    It rings at `at`, after `failed` attempts, and then every `every` seconds if that isn't null. `due` is its regular
    time.
    """

    name: str
    at: str
    due: str
    every: float | None
    failed: int


class PendingMessage(msgspec.Struct, kw_only=True):
    """A message in an object's outbox, without its payload of `size` bytes."""

    kind: Literal["event", "tell", "letter"]
    subject: str
    at: str
    size: int


class PendingWork(msgspec.Struct, kw_only=True):
    """The pending work of an object: its alarms, the next one first, and its outbox, the oldest message first.

    `outbox` has at most 100 messages, and `outbox_count` is the number of all.
    """

    alarms: list[PendingAlarm]
    outbox: list[PendingMessage]
    outbox_count: int


class SearchPage(msgspec.Struct, kw_only=True):
    """One page of a search; `next_cursor` is opaque, and null on the last page."""

    items: list[Any]
    next_cursor: str | None = None


class MethodDescription(msgspec.Struct, kw_only=True):
    """A method of a type; the schemas are JSON Schema 2020-12 with `#/$defs/…` references.

    `allow` is the method's rule in words, and `needs_credential` is False if it admits callers without a credential.
    """

    name: str
    kind: Literal["command", "query"]
    doc: str
    allow: str
    args: dict[str, Any]
    result: dict[str, Any]
    needs_credential: bool = True


class QueryDescription(msgspec.Struct, kw_only=True):
    """A search or view of a type, at `query.<type>.<name>`; the fields are as a method's."""

    name: str
    allow: str
    args: dict[str, Any]
    result: dict[str, Any]
    needs_credential: bool = True


class EventDescription(msgspec.Struct, kw_only=True):
    """An event that objects of a type publish; `data` is the schema of its content."""

    name: str
    doc: str
    data: dict[str, Any]


class ReactionDescription(msgspec.Struct, kw_only=True):
    """A subscription of a type: events of a NATS pattern go to one of its methods."""

    pattern: str
    method: str
    doc: str


class TypeDescription(msgspec.Struct, kw_only=True):
    """The description that a host announces for a type; the gateway makes its OpenAPI document from these.

    `management` limits the management endpoints: `raw` may read and write the state, `lifecycle` may
    create and delete but not show the state, `read_only` may only read. An `internal` type serves a
    service's own purposes; documents and lists leave it out.
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
    # True if the type keeps the versions of its objects.
    history: bool = False
