"""The list of active administrators, which keeps the last one from leaving.

Promise: every user listed here is an active administrator. A user joins the list after the commit
that grants the role, and leaves it before the commit that ends it. If that second commit fails, the
list lacks this user until the user is changed again. The list never has a user too many, and once
filled it is never empty again.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Failure, command, services

TYPE = "administrators"
ID = "all"


class AdministratorsState(msgspec.Struct):
    """The active administrators, and the version at which each former one left.

    A `join` that was sent before that version may arrive after the user has left, and is then ignored.
    """

    users: set[str] = set()
    left: dict[str, int] = {}


class AdministratorsDO(BaseDurableObject[AdministratorsState], type=TYPE, management="read_only", internal=True):
    """The active administrators by user ID. There is one such object, `administrators:all`."""

    @command(allow=services())
    async def join(self, user: str, version: int) -> None:
        """Add a user who became an active administrator after this version."""
        if version >= self.state.left.get(user, 0):
            self.state.users.add(user)
            self.state.left.pop(user, None)

    @command(allow=services())
    async def leave(self, user: str, version: int) -> None:
        """Remove a user who stops being one after this version. Raises `conflict` for the last one."""
        if self.state.users <= {user}:
            raise Failure("conflict", "this is the last active administrator")
        self.state.users.discard(user)
        self.state.left[user] = version
