"""A user: who it is, what it may do, and how it came to be.

Registration is a saga whose one decisive commit is the user's own. Before it, the e-mail address and
the username are reserved, in this order for everyone, so that no two wait for each other. A
registration that dies earlier leaves reservations for a user that doesn't exist, and whoever wants
such a name next gets it: it asks here, and the answer comes from the only owner of this object.
"""

from __future__ import annotations

import re
from typing import Any, NewType

import msgspec

from aidevos import (
    BaseDurableObject,
    Event,
    Failure,
    Schema,
    anyone,
    authenticated,
    command,
    inject,
    permission,
    query,
    services,
)
from aidevos.contracts import roles
from aidevos.contracts.authentication import ACCOUNT_TYPE, SessionPage, account_id
from aidevos.contracts.confirmation import CONFIRMATION_TYPE
from aidevos.contracts.merge_patch import merge_patch
from aidevos.contracts.roles import RoleName
from aidevos.contracts.users import (
    SEARCH,
    TYPE,
    Email,
    FindUsers,
    FullName,
    Password,
    Profile,
    Roles,
    Status,
    User,
    Username,
)
from aidevos.queries import Search
from aidevos.security.audit import record
from aidevos.security.emails import check_email
from aidevos.security.permissions import ROLES
from aidevos.security.throttle import AddressThrottle
from aidevos.settings import Settings

from . import administrators
from .role import role_of
from .rules import administers, check_grant, check_password
from .user_state import INDEXES, Announced, UserState, find, show

READ_USERS = "users:read"
MANAGE_USERS = "users:manage"
OWN_PROFILE = "profile:self"
Registrations = NewType("Registrations", AddressThrottle)
# Types that keep something in an object under the user's ID, and the method, for services and without
# arguments, that erases it. It is told once, after the commit: `Keepers` of the user's erasure, `Credentials`,
# which end for good like the sessions, of a deactivation too.
Keepers = NewType("Keepers", tuple[tuple[str, str], ...])
Credentials = NewType("Credentials", tuple[tuple[str, str], ...])
_profile: Schema[Profile] = Schema(Profile, "args.patch")
_new_id = re.compile(r"[0-9a-f]{32}").fullmatch


class Deleted(Event):
    """The user has been erased; whoever keeps something under its ID may act on it."""


class AccessChanged(Event):
    """Tokens from before this version of the user count with these roles, or, when it isn't active, not at all."""

    roles: list[str]
    active: bool
    version: int


class UserManagementDO(BaseDurableObject[UserState], type=TYPE, management="read_only"):
    """A user's profile, roles and status."""

    settings: Settings = inject()
    registrations: Registrations = inject()
    keepers: Keepers = inject()
    credentials: Credentials = inject()
    searches = (Search(SEARCH, permission(READ_USERS) | services(), FindUsers, find, show, INDEXES),)

    @command(allow=anyone(), confidential=True)
    async def register(self, username: Username, email: Email, password: Password, full_name: FullName = "") -> User:
        """Become a user, under a new ID: a UUIDv7 in hexadecimal."""
        if self.state.registration == self.request_id:
            return self._shown()
        if not self.settings.registration:
            raise Failure("forbidden", "registration is closed")
        self.registrations.admit(self.client_address, self.now)
        if not _new_id(self.id):
            raise Failure("invalid", "a new user's ID is a UUID, 32 hexadecimal digits", field="id")
        if self.state.username or self.state.erased:
            raise Failure("exists", "there is, or was, a user with this ID")
        email = check_email(email)
        check_password(password, self.settings.password_min_length, username, email, full_name)
        await self._reserve(username, email, password)
        self._begin(username, email, full_name, ["user"])
        self.tell(CONFIRMATION_TYPE, self.id, "welcome", email=email)
        record(self, "user.registered", actor=self.id, target=self.id)
        return self._shown(changes=1)

    @command(allow=services(), confidential=True)
    async def install(self, username: Username, password: Password) -> None:
        """Become the first administrator, unless that has happened."""
        if not (self.state.username or self.state.erased):
            await self._reserve(username, None, password)
            self._begin(username, None, "", ["admin"])
            record(self, "user.registered", target=self.id)
            self.tell(administrators.TYPE, administrators.ID, "join", user=self.id, version=self.version)

    @command(allow=services())
    async def holds(self, account: str) -> bool:
        """Whether this user exists and has the name of this account. A command: what an earlier
        owner of this object has begun is decided when this is answered, and an address that was only
        announced is given up."""
        self._check_exists()
        if self.state.announced and account_id(self.state.announced.email) == account:
            self.state.announced = None
        names = [self.state.username, *([self.state.email] if self.state.email else [])]
        return account in map(account_id, names)

    @command(allow=services())
    async def confirm_email(self, email: str) -> None:
        """Note that the user has shown to have this e-mail address, if it is still the user's."""
        self._check_exists()
        if email == self.state.email and not self.state.email_verified:
            self.state.email_verified = True
            self.state.updated_at = self.now

    @command(allow=services())
    async def announce_email(self, email: str, change: str) -> None:
        """Be about to take another e-mail address: to be called before it is reserved."""
        self._check_exists()
        self.state.announced = Announced(email, change)

    @command(allow=services())
    async def take_email(self, email: str, change: str) -> None:
        """Take the e-mail address that this change has announced and reserved, and release the one before."""
        self._check_exists()
        state = self.state
        if state.email == email:
            return
        if state.announced != Announced(email, change):
            raise Failure("conflict", "somebody else wanted this address at the same time: try again")
        if state.email is not None and account_id(state.email) != account_id(email):
            self.tell(ACCOUNT_TYPE, account_id(state.email), "free_email", user=self.id)
        state.email, state.email_verified, state.announced = email, True, None
        state.updated_at = self.now

    @query(allow=services())
    async def show(self) -> User:
        """The user, for services."""
        self._check_exists()
        return self._shown()

    @query(allow=services())
    async def is_erased(self) -> bool:
        """Whether there was a user with this ID, who is gone for good."""
        return self.state.erased

    @query(allow=authenticated())
    async def read(self) -> User:
        """The user, for itself and for those who have `users:read`; for others there is none."""
        self._check_visible()
        return self._shown()

    @command(allow=authenticated())
    async def replace(
        self,
        full_name: FullName = "",
        settings: dict[str, Any] | None = None,
        roles: Roles | None = None,
        status: Status | None = None,
    ) -> User:
        """Replace the profile; roles and status stay where they are not given."""
        self._check_visible()
        return await self._change(
            Profile(
                full_name=full_name,
                settings=settings or {},
                roles=self.state.roles if roles is None else roles,
                status=status or self.state.status,
            )
        )

    @command(allow=authenticated())
    async def patch(self, patch: dict[str, Any]) -> User:
        """Change the profile by a JSON merge patch (RFC 7396)."""
        self._check_visible()
        state = self.state
        profile = Profile(full_name=state.full_name, settings=state.settings, roles=state.roles, status=state.status)
        merged = merge_patch(msgspec.to_builtins(profile), patch)
        return await self._change(_profile.convert(merged), "args.patch")

    @command(allow=permission(MANAGE_USERS))
    async def activate(self) -> User:
        """Let the user log in again."""
        return await self._set_status("active")

    @command(allow=permission(MANAGE_USERS))
    async def deactivate(self) -> User:
        """End every session and API key of the user, for good, and let it open no other."""
        return await self._set_status("deactivated")

    @query(allow=authenticated())
    async def sessions(self) -> SessionPage:
        """The user's sessions, for itself and for those who have `users:read`."""
        self._check_visible()
        return await self._sessions()

    @command(allow=authenticated())
    async def end_session(self, session: str) -> None:
        """End a session of the user."""
        self._check_manageable()
        if session not in (each.id for each in (await self._sessions()).items):
            raise Failure("not-found", "there is no such session")
        self.tell(ACCOUNT_TYPE, account_id(self.state.username), "end_session", session=session)
        record(self, "session.ended", target=self.id, session=session)

    @command(allow=authenticated())
    async def end_sessions(self) -> None:
        """End every session of the user."""
        self._check_manageable()
        self.tell(ACCOUNT_TYPE, account_id(self.state.username), "end_sessions")
        record(self, "sessions.ended", target=self.id)

    @command(allow=services())
    async def lose_role(self, role: RoleName) -> None:
        """Have a role no more that was deleted while it was given."""
        if not (self.state.username or self.state.erased):
            # A turn that only returned would make an object.
            await self.delete()
        elif role in self.state.roles:
            self.state.roles.remove(role)
            self.state.updated_at = self.now
            record(self, "role.changed", target=self.id, reason=", ".join(self.state.roles))
            self._emit_access(self.state.roles, self.state.status)

    def _emit_access(self, roles: list[str], status: Status) -> None:
        self.emit(AccessChanged(roles=[*roles], active=status == "active", version=self.version + 1))

    async def _sessions(self) -> SessionPage:
        account = account_id(self.state.username)
        reply = await self.call(ACCOUNT_TYPE, account, "sessions", current=self.caller.session)
        return msgspec.convert(reply, SessionPage)

    @command(allow=authenticated(), confidential=True)
    async def erase(self, password: Password | None = None) -> None:
        """Erase the user's data for good: by itself, with the password, or by an administrator."""
        if self.state.erased and (self._manages() or self._is_self()):
            return
        self._check_manageable()
        state, account = self.state, account_id(self.state.username)
        if self._is_self():
            await self.call(
                ACCOUNT_TYPE,
                account,
                "check_password",
                password=password or "",
                action="user.erased",
                session=self.caller.session,
            )
        elif "admin" in state.roles:
            check_grant(self.caller, ROLES["admin"])
        if administers(state.roles, state.status):
            await self.call(administrators.TYPE, administrators.ID, "leave", user=self.id, version=self.version)
        announced = state.announced.email if state.announced else None
        for name in filter(None, (state.username, state.email, announced)):
            self.tell(ACCOUNT_TYPE, account_id(name), "release", user=self.id)
        for type, method in self.keepers:
            self.tell(type, self.id, method)
        self.tell(TYPE, self.id, "forget")
        self._emit_access([], "deactivated")
        self.emit(Deleted())
        record(self, "user.erased", target=self.id)
        self.state = UserState(erased=True)

    @command(allow=services())
    async def forget(self) -> None:
        """The end of an erasure: what was answered to earlier requests goes too."""
        if self.state.erased:
            await self.forget_outcomes()

    async def _set_status(self, status: Status) -> User:
        self._check_exists()
        state = self.state
        return await self._change(
            Profile(full_name=state.full_name, settings=state.settings, roles=self.state.roles, status=status)
        )

    async def _change(self, profile: Profile, within: str = "args") -> User:
        state = self.state
        names = sorted(set(profile.roles))
        affects_access = (names, profile.status) != (sorted(state.roles), state.status)
        if affects_access and not self.caller.has(MANAGE_USERS):
            raise Failure("forbidden", f"roles and status are changed with {MANAGE_USERS}")
        self._check_manageable()
        await self._check_roles(profile, f"{within}.roles")
        remains = administers(names, profile.status)
        if administers(state.roles, state.status) and not remains:
            await self.call(administrators.TYPE, administrators.ID, "leave", user=self.id, version=self.version)
        if remains:
            self.tell(administrators.TYPE, administrators.ID, "join", user=self.id, version=self.version)
        if affects_access:
            self._emit_access(names, profile.status)
            if profile.status != "active":
                self.tell(ACCOUNT_TYPE, account_id(state.username), "end_sessions")
                for type, method in self.credentials:
                    self.tell(type, self.id, method)
        self._record_changes(profile, names)
        state.full_name, state.settings = profile.full_name, profile.settings
        state.roles, state.status = names, profile.status
        state.updated_at = self.now
        return self._shown(changes=1)

    async def _check_roles(self, profile: Profile, field: str) -> None:
        """Nobody gives or takes what they haven't themselves, and administrators are among themselves."""
        state = self.state
        if "admin" in state.roles and profile.status != state.status:
            check_grant(self.caller, ROLES["admin"])
        for name in sorted({*profile.roles} - {*state.roles}):
            where = f"{field}[{profile.roles.index(name)}]"
            given = await role_of(self, name)
            if given is None:
                raise Failure("invalid", f"there is no role {name!r} for users", field=where)
            check_grant(self.caller, given.permissions, field=where)
            if not given.builtin:
                self.tell(roles.TYPE, name, "hold", user=self.id, version=given.version)
        for name in sorted({*state.roles} - {*profile.roles}):
            taken = await role_of(self, name)
            check_grant(self.caller, taken.permissions if taken else (), field=field)

    def _record_changes(self, profile: Profile, names: list[str]) -> None:
        state = self.state
        if profile.status != state.status:
            record(self, "user.activated" if profile.status == "active" else "user.deactivated", target=self.id)
        if names != sorted(state.roles):
            record(self, "role.changed", target=self.id, reason=", ".join(names))
        of_another = self.caller.subject != self.id
        if of_another and (profile.full_name, profile.settings) != (state.full_name, state.settings):
            record(self, "profile.changed", target=self.id)

    def _check_visible(self) -> None:
        if not self._is_self() and not self.caller.has(READ_USERS):
            raise _no_user()
        self._check_exists()

    def _check_manageable(self) -> None:
        if not self._manages():
            self._check_visible()
        self._check_exists()
        if not self._manages() and not self._is_self():
            raise Failure("forbidden", f"what is another's is changed with {MANAGE_USERS}")

    def _is_self(self) -> bool:
        return self.caller.acts_for(self.id, OWN_PROFILE)

    def _manages(self) -> bool:
        return self.caller.has(MANAGE_USERS)

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

    def _shown(self, changes: int = 0) -> User:
        return show(self.id, self.state, self.version + changes)


def _no_user() -> Failure:
    return Failure("not-found", "there is no such user")
