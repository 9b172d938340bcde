"""API keys as both entry points show them, and the messages of `services/api_gateway` about them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos.contracts.projects import Id as ProjectId

TYPE = "api_key"
# The type whose object, under a user's ID, is told when the user is deleted.
HOLDER_TYPE = "key_holder"
# The search over the caller's keys: `query.api_key.search`.
SEARCH = "search"
# The event that every process that caches keys subscribes to.
CHANGED = f"event.{TYPE}.*.changed"
OWN_KEYS = "keys:self"
MANAGE_KEYS = "keys:manage"

KeyName = Annotated[str, Meta(min_length=1, max_length=100)]
Scopes = Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(min_length=1, max_length=100)]
Addresses = Annotated[
    list[Annotated[str, Meta(max_length=64)]], Meta(max_length=100, description="Addresses or networks in CIDR form")
]
Moment = Annotated[datetime, Meta(tz=True)]
Overlap = Annotated[float, Meta(ge=0, le=30 * 86_400, description="Seconds for which the former key still works")]


class RateLimit(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`rate` requests in `window` seconds: that many at once, then one every `window / rate` seconds."""

    rate: Annotated[int, Meta(ge=1, le=1_000_000)]
    window: Annotated[float, Meta(gt=0, le=86_400)] = 1.0


class KeyLimit(msgspec.Struct, frozen=True):
    """The rate limit of an API key, which the requests of the keys made by it also spend."""

    key: str
    limit: RateLimit


class ApiKeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of a key that a merge patch can change.

    A scope is a permission, such as `data:read`, or a permission narrowed to a resource, such as
    `data:read:collection=orders`. `*` stands for all of the owner's permissions.
    """

    name: KeyName
    scopes: Scopes
    limits: RateLimit | None = None
    expires_at: Moment | None = None
    allowed_addresses: Addresses = []


class CreateApiKeyBody(ApiKeyBody, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /api-keys`, and the arguments of `create`.

    A key with a `project` is valid only there; that can't be changed. A key that another key makes has all
    bounds of that key that aren't given, and can't have wider ones.
    """

    project: ProjectId | None = None


class RotateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api-keys/{id}/rotate`, and the arguments of `rotate`."""

    overlap: Overlap = 0.0


class APIKey(msgspec.Struct, kw_only=True):
    """A key without its text.

    `hint` is four characters of the text, `parent` is the ID of the key that made this one, if any,
    `last_used_at` is accurate to a minute, times are RFC 3339 in UTC, and `version` is the ETag.
    """

    id: str
    name: str
    hint: str
    owner: str
    parent: str | None
    project: str | None
    scopes: list[str]
    limits: RateLimit | None
    expires_at: str | None
    allowed_addresses: list[str]
    last_used_at: str | None
    version: int
    created_at: str
    updated_at: str


class NewApiKey(APIKey, kw_only=True):
    """A new key with its text, which is shown only once."""

    key: str


class ApiKeySummary(msgspec.Struct, kw_only=True):
    """The parts of a key by which its owner recognises it."""

    id: str
    name: str
    hint: str
    created_at: str


class FindApiKeys(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.api_key.search`, and the parameters of `GET /api-keys`.

    `owner` is a user's ID; callers without `keys:manage` always get their own keys. `parent` is the ID of
    a key; only the keys that it has made are found.
    """

    limit: int = 50
    cursor: str | None = None
    owner: Annotated[str, Meta(max_length=128)] | None = None
    parent: Annotated[str, Meta(max_length=128)] | None = None


class ApiKeyPage(msgspec.Struct, kw_only=True):
    items: list[APIKey]
    next_cursor: str | None = None


class KeyGrant(msgspec.Struct, kw_only=True):
    """The permissions and bounds of a key, as verifiers cache them.

    `roles` are the owner's at the owner's `version`; `expires_at` is in seconds since the epoch. `parents`
    are the keys whose change also changes this grant: the one that made this key, the one that made that
    key, and so on. `parent_limits` are the rate limits of those that have one.
    """

    id: str
    owner: str
    roles: list[str]
    version: int
    scopes: list[str]
    limits: RateLimit | None
    expires_at: float | None
    allowed_addresses: list[str]
    project: str | None = None
    parents: list[str] = []
    parent_limits: list[KeyLimit] = []
