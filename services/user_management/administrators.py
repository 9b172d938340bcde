"""Who administers: the one object that keeps the last active administrator from leaving.

Promise: whoever is listed here is an active administrator. A user joins after the commit that makes
it one, and leaves before the commit that ends it. Where that commit then fails, the list lacks one
until that user is changed again; it never has one too many, and once filled it is never empty again.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, services

TYPE = "administrators"
ID = "all"


class AdministratorsState(msgspec.Struct):
    """`left` has the version at which a user has left: what it has told before may arrive later."""

    users: set[str] = set()
    left: dict[str, int] = {}


class AdministratorsDO(BaseDurableObject[AdministratorsState], type=TYPE, management="read_only", internal=True):
    """The active administrators, by user ID; there is one such object, `administrators:all`."""

    @command(allow=services())
    async def join(self, user: str, version: int) -> None:
        """Note that a user of this version has become an active administrator."""
        if version >= self.state.left.get(user, 0):
            self.state.users.add(user)
            self.state.left.pop(user, None)

    @command(allow=services())
    async def leave(self, user: str, version: int) -> None:
        """Let a user of this version stop being one, unless nobody else is left."""
        if self.state.users <= {user}:
            raise Failure("conflict", "this is the last active administrator")
        self.state.users.discard(user)
        self.state.left[user] = version
