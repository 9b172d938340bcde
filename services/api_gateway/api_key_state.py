"""The stored state of an API key, its public view, and the search for keys."""

from __future__ import annotations

from typing import Any

import msgspec

from aidevos.contracts.api_keys import MANAGE_KEYS, APIKey, FindApiKeys, RateLimit
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.queries import And, Compare, Condition, Find
from aidevos.security.permissions import Principal

# The order of a search, alone and after each filter.
INDEXES = tuple((*path, "created_at") for path in ((), ("owner",), ("parent",)))


class ApiKeyState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch.

    The key's text is derived from `nonce`. `former` is the hash of the key before a rotation, valid
    until `former_until`. `made_by` is the ID of the request that made the key, and `parent` that of the key
    with which it was made, if any.
    """

    name: str = ""
    owner: str = ""
    parent: str = ""
    project: str | None = None
    scopes: list[str] = []
    limits: RateLimit | None = None
    expires_at: float | None = None
    allowed_addresses: list[str] = []
    hashed: str = ""
    hint: str = ""
    nonce: str = ""
    former: str = ""
    former_until: float = 0.0
    made_by: str = ""
    last_used_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


def restrict(caller: Principal, args: FindApiKeys) -> FindApiKeys:
    """Return the search that the caller may make: over all keys with `keys:manage`, otherwise over its own."""
    return args if caller.has(MANAGE_KEYS) else msgspec.structs.replace(args, owner=caller.subject)


def find(args: FindApiKeys) -> Find:
    """Return the store's query for a search."""
    where: list[Condition] = [
        Compare((name,), "eq", value)
        for name, value in {"owner": args.owner, "parent": args.parent}.items()
        if value is not None
    ]
    return Find(And(tuple(where)), args.limit, ("created_at",))


def show(id: str, state: ApiKeyState, version: int) -> APIKey:
    """Return the key's public representation."""
    return APIKey(**shown_fields(id, state, version))


def shown_fields(id: str, state: ApiKeyState, version: int) -> dict[str, Any]:
    """Return the fields of `APIKey`."""
    return {
        "id": id,
        "name": state.name,
        "hint": state.hint,
        "owner": state.owner,
        "parent": state.parent or None,
        "project": state.project,
        "scopes": state.scopes,
        "limits": state.limits,
        "expires_at": _moment(state.expires_at),
        "allowed_addresses": state.allowed_addresses,
        "last_used_at": _moment(state.last_used_at),
        "version": version,
        "created_at": _moment(state.created_at),
        "updated_at": _moment(state.updated_at),
    }


def _moment(seconds: float | None) -> Any:
    return None if seconds is None else rfc3339(timestamp(seconds))
