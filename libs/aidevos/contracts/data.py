"""The messages of `services/data_storage`, and the IDs of its objects."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.patterns import whole
from aidevos.contracts.projects import Id as ProjectId

COLLECTION_TYPE = "collection"
ITEM_TYPE = "item"
VERSION_TYPE = "item_version"
# `do.eraser.<user>.erase` erases all data of this user.
ERASER_TYPE = "eraser"
# The type whose object, under a user's ID, bounds the user's collections.
HOLDER_TYPE = "collection_holder"
# Views: `query.collection.visible`, `query.collection.visibility`, `query.collection.creatable`, `query.item.find`.
VISIBLE = "visible"
VISIBILITY = "visibility"
CREATABLE = "creatable"
FIND = "find"

COLLECTION_PATTERN = r"[A-Za-z0-9_-]{1,64}"
# Names that paths use in the place of an item's ID.
RESERVED_IDS = frozenset({"config", "export", "import"})
BULK_LIMIT = 1000
MAX_INDEXES = 16
MAX_UNIQUE = 16
HISTORY_LIMIT = 500

_is_collection = re.compile(COLLECTION_PATTERN).fullmatch

CollectionName = Annotated[str, Meta(pattern=whole(COLLECTION_PATTERN))]
ItemId = Annotated[str, Meta(pattern=whole(subjects.ID_PATTERN))]
Path = Annotated[str, Meta(min_length=1, max_length=512, description="A dotted path, relative to `data`")]
GRANT_PATTERN = r"owner|authenticated|public|role:[a-z][a-z0-9_-]{0,47}|permission:[a-z][a-z0-9_:=-]{0,127}"
# The service checks each grant. Two constraints in one union make msgspec 0.22 write past its memory.
Grants = str | list[str]


def check_collection(name: str) -> None:
    """Raise `invalid` unless this is a valid name of a collection."""
    if not _is_collection(name):
        raise Failure("invalid", f"a collection's name must match {COLLECTION_PATTERN}", field="collection")


@lru_cache(maxsize=10_000)
def item_object(collection: str, id: str) -> str:
    """Return the ID of the `item` object for this item. Raises `not-found` for invalid names."""
    if not subjects.is_id(id) or not _is_collection(collection):
        raise Failure("not-found", "this item doesn't exist")
    return subjects.id_from_name(ITEM_TYPE, f"{collection}/{id}")


class Rules(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The grants for each operation: one grant, or a list of which any suffices.

    `owner` is the creator of the item, or for `create` the creator of the collection. Callers with
    `collections:manage` may do everything. In a project's collection, only members count: all may read,
    `owner` means maintainers and owners, and `authenticated` and `public` mean all members.
    """

    read: Grants = "owner"
    create: Grants = "owner"
    update: Grants = "owner"
    delete: Grants = "owner"


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /data/collections/{collection}`, and an argument of `configure`.

    `schema` is JSON Schema 2020-12. `indexes` are lists of paths, with a minus for descending order.
    `expires_after` is in seconds since an item's last change. `project` is the project that the
    collection belongs to.
    """

    project: ProjectId | None = None
    schema: dict[str, Any] | bool | None = None
    rules: Rules = msgspec.field(default_factory=Rules)
    indexes: Annotated[list[Annotated[list[Path], Meta(min_length=1, max_length=8)]], Meta(max_length=MAX_INDEXES)] = []
    unique: Annotated[list[Path], Meta(max_length=MAX_UNIQUE)] = []
    history: bool = False
    expires_after: Annotated[float, Meta(gt=0, le=100 * 365 * 86400)] | None = None
    require_if_match: bool = False


class Collection(Config, kw_only=True):
    """A collection as both entry points show it; `version` is the ETag, times are RFC 3339 in UTC."""

    name: str
    owner: str
    version: int
    created_at: str
    updated_at: str


class Item(msgspec.Struct, kw_only=True):
    """An item as both entry points show it; `data` is the user's document."""

    id: str
    collection: str
    data: Any
    version: int
    owner: str
    created_at: str
    updated_at: str


class Version(msgspec.Struct, kw_only=True):
    """One entry of an item's history; `deleted` marks the version that a deletion made."""

    version: int
    author: str
    at: str
    deleted: bool = False


class History(msgspec.Struct, kw_only=True):
    """One page of an item's versions, latest first."""

    items: list[Version]
    next_cursor: str | None = None


class VisibleCollections(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.collection.visible`, and the parameters of `GET /data/collections`."""

    limit: int = 50
    cursor: str | None = None
    project: ProjectId | None = None


class CollectionEntry(msgspec.Struct, kw_only=True):
    """A collection in a list; `count` is the number of items that the caller may read."""

    name: str
    owner: str
    project: str | None
    count: int
    version: int
    created_at: str
    updated_at: str


class CollectionPage(msgspec.Struct, kw_only=True):
    items: list[CollectionEntry]
    next_cursor: str | None = None


class VisibilityArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `query.collection.visibility`."""

    collection: CollectionName


class Visibility(msgspec.Struct, frozen=True):
    """The items of a collection that the caller may read now: all, its own, or none.

    A collection that doesn't exist has none. `incarnation` differs from that of an earlier collection
    with this name.
    """

    items: Literal["all", "own", "none"]
    incarnation: str = ""


class CreatableArgs(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments of `query.collection.creatable`."""

    collection: CollectionName


class FindItems(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.item.find`, and the parameters of `GET /data/collections/{collection}`.

    `filter` is an object of the filter grammar. `sort` and `fields` are paths relative to `data`,
    separated by commas; a minus reverses the order. With `count`, the response contains the number of
    all matching items.
    """

    collection: CollectionName
    filter: dict[str, Any] = {}
    sort: Annotated[str, Meta(max_length=4096)] = ""
    fields: Annotated[str, Meta(max_length=4096)] = ""
    limit: int = 50
    cursor: Annotated[str, Meta(max_length=16384)] | None = None
    count: bool = False


class ItemPage(msgspec.Struct, kw_only=True):
    """One page of items; `next_cursor` is opaque, and null on the last page."""

    items: list[Item]
    next_cursor: str | None = None
    count: int | msgspec.UnsetType = msgspec.UNSET


class BulkResult(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The result of one item of many; `line` is the line number in an import, from 1."""

    line: int | None = None
    status: int
    id: str | None = None
    problem: dict[str, Any] | None = None


class BulkResults(msgspec.Struct, kw_only=True):
    """The results of a list of items, in the same order."""

    results: list[BulkResult]


class CreateItemBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /data/collections/{collection}`; without `id`, the item gets a new one."""

    id: ItemId | None = None
    data: msgspec.Raw


class ReplaceItemBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `PUT /data/collections/{collection}/{item_id}`."""

    data: msgspec.Raw
