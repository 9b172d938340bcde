"""A user: who it is, what it may do, and how it came to be.

Registration is a saga whose one decisive commit is the user's own. Before it, the e-mail address and
the username are reserved, in this order for everyone, so that no two wait for each other. A
registration that dies earlier leaves reservations for a user that doesn't exist, and whoever wants
such a name next gets it: it asks here, and the answer comes from the only owner of this object.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

from aidevos import BaseDurableObject, Failure, anyone, authenticated, command, query, services
from aidevos.contracts.authentication import ACCOUNT_TYPE, account_id
from aidevos.contracts.users import TYPE, Email, FullName, Password, Status, User, Username
from aidevos.durable.clock import rfc3339, timestamp
from aidevos.settings import Settings
from services.user_management.rules import check_email, check_password

READ_USERS = "users:read"
_new_id = re.compile(r"[0-9a-f]{32}").fullmatch


class UserState(msgspec.Struct):
    """`registration` is the request that made the user; times are in seconds since the epoch."""

    username: str = ""
    email: str | None = None
    full_name: str = ""
    roles: list[str] = []
    status: Status = "active"
    email_verified: bool = False
    created_at: float = 0.0
    updated_at: float = 0.0
    registration: str = ""


class UserManagementDO(BaseDurableObject[UserState], type=TYPE, management="read_only"):
    """A user's profile, roles and status."""

    settings: ClassVar[Settings]

    @command(allow=anyone(), confidential=True)
    async def register(self, username: Username, email: Email, password: Password, full_name: FullName = "") -> User:
        """Become a user, under a new ID: a UUIDv7 in hexadecimal."""
        if self.state.registration == self.request_id:
            return self._shown()
        if not self.settings.registration:
            raise Failure("forbidden", "registration is closed")
        if not _new_id(self.id):
            raise Failure("invalid", "a new user's ID is a UUID, 32 hexadecimal digits", field="id")
        if self.state.username:
            raise Failure("exists", "there is a user with this ID")
        email = check_email(email)
        check_password(password, self.settings.password_min_length, username, email, full_name)
        await self._reserve(username, email, password)
        self._begin(username, email, full_name, ["user"])
        return self._shown()

    @command(allow=services(), confidential=True)
    async def install(self, username: Username, password: Password) -> None:
        """Become the first administrator, unless that has happened."""
        if not self.state.username:
            await self._reserve(username, None, password)
            self._begin(username, None, "", ["admin"])

    @command(allow=services())
    async def holds(self, account: str) -> bool:
        """Whether this user exists and has the name of this account. A command: what an earlier
        owner of this object has begun is decided when this is answered."""
        self._check_exists()
        names = [self.state.username, *([self.state.email] if self.state.email else [])]
        return account in map(account_id, names)

    @query(allow=services())
    async def show(self) -> User:
        """The user, for services."""
        self._check_exists()
        return self._shown()

    @query(allow=authenticated())
    async def read(self) -> User:
        """The user, for itself and for those who have `users:read`; for others there is none."""
        if self.caller.subject != self.id and not self.caller.has(READ_USERS):
            raise _no_user()
        self._check_exists()
        return self._shown()

    async def _reserve(self, username: str, email: str | None, password: str) -> None:
        account = account_id(username)
        if email is not None:
            await self._take(email, "args.email", "reserve_email", user=self.id, primary=account)
        try:
            await self._take(username, "args.username", "reserve", user=self.id, password=password)
        except Failure:
            if email is not None:
                await self.call(ACCOUNT_TYPE, account_id(email), "release", user=self.id)
            raise

    async def _take(self, name: str, field: str, method: str, **args: str) -> None:
        try:
            await self.call(ACCOUNT_TYPE, account_id(name), method, **args)
        except Failure as failure:
            if failure.code == "exists":
                raise Failure("exists", f"the {field.partition('.')[2]} is taken", field=field) from None
            raise

    def _begin(self, username: str, email: str | None, full_name: str, roles: list[str]) -> None:
        self.state = UserState(
            username=username,
            email=email,
            full_name=full_name,
            roles=roles,
            created_at=self.now,
            updated_at=self.now,
            registration=self.request_id,
        )

    def _check_exists(self) -> None:
        if not self.state.username:
            raise _no_user()

    def _shown(self) -> User:
        state = self.state
        return User(
            id=self.id,
            username=state.username,
            email=state.email,
            full_name=state.full_name,
            roles=state.roles,
            status=state.status,
            email_verified=state.email_verified,
            created_at=rfc3339(timestamp(state.created_at)),
            updated_at=rfc3339(timestamp(state.updated_at)),
        )


def _no_user() -> Failure:
    return Failure("not-found", "there is no such user")
