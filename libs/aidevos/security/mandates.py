"""Who a service may act for, as the user's own object, or that of the API key, tells it today."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from aidevos.contracts import api_keys, users
from aidevos.contracts.api_keys import KeyGrant
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import User
from aidevos.security.delegations import Mandate

# Calls a method without arguments, as a service: `self.call` of an object, `call` of a client.
Call = Callable[[str, str, str], Awaitable[Any]]


async def mandate_of(call: Call, user: str, key: str = "") -> Mandate:
    """The mandate of a user, who has asked by the API key `key` if that is given; raises `unauthenticated`
    where the user or the key has no access today, and what else the call does."""
    try:
        if key:
            grant = msgspec.convert(await call(api_keys.TYPE, key, "grant"), KeyGrant)
            if grant.owner == user:
                scopes, project = tuple(grant.scopes), grant.project or ""
                return Mandate(user, tuple(grant.roles), grant.version, key=key, scopes=scopes, project=project)
        else:
            shown = msgspec.convert(await call(users.TYPE, user, "show"), User)
            if shown.status == "active":
                return Mandate(user, tuple(shown.roles), shown.version)
    except Failure as failure:
        if failure.code not in ("not-found", "forbidden", "invalid"):
            raise
    raise Failure("unauthenticated", "whoever asked for this has no access any more")
