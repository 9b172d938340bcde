"""API keys as both doors show them, and the messages of `services/api_gateway` about them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos.contracts.projects import Id as ProjectId

TYPE = "api_key"
# Under a user's ID: what is told when the user is erased.
HOLDER_TYPE = "key_holder"
# A search over the caller's keys: `query.api_key.search`.
SEARCH = "search"
# The event that every process which has looked a key up listens to.
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
    """`rate` requests in `window` seconds: so many at once, then one each `window / rate` seconds."""

    rate: Annotated[int, Meta(ge=1, le=1_000_000)]
    window: Annotated[float, Meta(gt=0, le=86_400)] = 1.0


class ApiKeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a merge patch changes of a key. A scope is a permission, or one narrowed to a resource:
    `data:read:collection=orders`; `*` is whatever the owner may do."""

    name: KeyName
    scopes: Scopes
    limits: RateLimit | None = None
    expires_at: Moment | None = None
    allowed_addresses: Addresses = []


class CreateApiKeyBody(ApiKeyBody, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /api-keys`, and the arguments of `create`. A key with a `project` counts there alone, and
    for good."""

    project: ProjectId | None = None


class RotateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api-keys/{id}/rotate`, and the arguments of `rotate`."""

    overlap: Overlap = 0.0


class APIKey(msgspec.Struct, kw_only=True):
    """A key without the key: `hint` is four of its digits; `last_used_at` is true to a minute; times are
    RFC 3339 in UTC; `version` is the ETag."""

    id: str
    name: str
    hint: str
    owner: str
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
    """A key that was made just now: `key` is shown this once."""

    key: str


class FindApiKeys(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.api_key.search`, and the parameters of `GET /api-keys`. `owner` is a user's
    ID; whoever lacks `keys:manage` gets their own in any case."""

    limit: int = 50
    cursor: str | None = None
    owner: Annotated[str, Meta(max_length=128)] | None = None


class ApiKeyPage(msgspec.Struct, kw_only=True):
    items: list[APIKey]
    next_cursor: str | None = None


class KeyGrant(msgspec.Struct, kw_only=True):
    """What a key stands for, as verifiers keep it: its owner as it was at the owner's `version`, and the
    bounds of the key. `expires_at` is in seconds since the epoch."""

    id: str
    owner: str
    roles: list[str]
    version: int
    scopes: list[str]
    limits: RateLimit | None
    expires_at: float | None
    allowed_addresses: list[str]
    project: str | None = None
