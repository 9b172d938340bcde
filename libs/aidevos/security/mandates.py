"""Mandates of services: the current access of the user, or of the API key, for whom a service acts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from aidevos.contracts import api_keys, users
from aidevos.contracts.api_keys import KeyGrant
from aidevos.contracts.errors import Failure
from aidevos.contracts.users import User
from aidevos.security.delegations import Mandate

# Calls a method without arguments as a service: an object's `self.call`, or a client's `call`.
Call = Callable[[str, str, str], Awaitable[Any]]


async def load_mandate(call: Call, user: str, key: str = "") -> Mandate:
    """Return the mandate of a user, limited to the API key `key` if it is given.

    Raises `unauthenticated` if the user or the key has no access now, and any other failure of the
    call.
    """
    try:
        if key:
            grant = msgspec.convert(await call(api_keys.TYPE, key, "grant"), KeyGrant)
            if grant.owner == user:
                return Mandate(
                    user,
                    tuple(grant.roles),
                    grant.version,
                    key=key,
                    scopes=tuple(grant.scopes),
                    project=grant.project or "",
                    key_parents=tuple(grant.parents),
                )
        else:
            shown = msgspec.convert(await call(users.TYPE, user, "show"), User)
            if shown.status == "active":
                return Mandate(user, tuple(shown.roles), shown.version)
    except Failure as failure:
        if failure.code not in ("not-found", "forbidden", "invalid"):
            raise
    raise Failure("unauthenticated", "the user or API key behind this no longer has access")
