"""A user: profile, roles, status, registration and erasure.

Registration is a saga with one decisive commit, the commit of the user's own object. Before it, the
e-mail address and the username are reserved, always in this order, so that two registrations never
wait for each other. A registration that dies earlier leaves reservations for a user that doesn't
exist. The next user who wants such a name gets it: the name's object asks the object here, and only
the owner of this object answers.
"""

from __future__ import annotations

import re
import secrets
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
    OWN_PROFILE,
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
from aidevos.security.second_factor import needs_second_factor
from aidevos.security.throttle import AddressThrottle
from aidevos.settings import Settings

from . import administrators
from .role import load_role
from .rules import check_grant, check_password, is_administrator
from .user_state import INDEXES, Announced, UserState, find, show

READ_USERS = "users:read"
MANAGE_USERS = "users:manage"
Registrations = NewType("Registrations", AddressThrottle)
# Pairs of an object type and a method without arguments. After the commit, the user tells the method of the
# object under the user's ID. `ErasureHooks` erase the data that other types keep for an erased user.
# `DeactivationHooks` revoke credentials that, like the sessions, end for good with a deactivation.
ErasureHooks = NewType("ErasureHooks", tuple[tuple[str, str], ...])
DeactivationHooks = NewType("DeactivationHooks", tuple[tuple[str, str], ...])
_profile: Schema[Profile] = Schema(Profile, "args.patch")
_is_new_id = re.compile(r"[0-9a-f]{32}").fullmatch


class Deleted(Event):
    """The user has been erased. Services that keep data under the user's ID should delete it."""


class AccessChanged(Event):
    """The user's roles or status have changed.

    Tokens issued before this version of the user count with these roles, or are refused if `active` is false.
    """

    roles: list[str]
    active: bool
    version: int


class UserManagementDO(BaseDurableObject[UserState], type=TYPE, management="read_only"):
    """A user's profile, roles and status."""

    settings: Settings = inject()
    registrations: Registrations = inject()
    erasure_hooks: ErasureHooks = inject()
    deactivation_hooks: DeactivationHooks = inject()
    searches = (Search(SEARCH, permission(READ_USERS) | services(), FindUsers, find, show, INDEXES),)

    @command(allow=anyone(), confidential=True)
    async def register(self, username: Username, email: Email, password: Password, full_name: FullName = "") -> User:
        """Register a new user. The object's ID must be new: a UUIDv7 in hexadecimal, 32 digits."""
        if self.state.registration == self.request_id:
            return self._render()
        if not self.settings.registration:
            raise Failure("forbidden", "registration is closed")
        await self.registrations.admit(self.client_address, self.now, self.call)
        await self._establish(username, email, password, full_name, ["user"])
        self.tell(CONFIRMATION_TYPE, self.id, "welcome", email=self.state.email)
        record(self, "user.registered", actor=self.id, target=self.id)
        return self._render(changes=1)

    @command(allow=permission(MANAGE_USERS), confidential=True)
    async def create(
        self,
        username: Username,
        email: Email,
        password: Password | None = None,
        full_name: FullName = "",
        roles: Roles | None = None,
    ) -> User:
        """Create a user, also while registration is closed. The object's ID must be new, as for `register`.

        A mail asks the user to confirm the address or, without `password`, brings a link that sets one. Without
        `roles`, the user has the role `user`. The caller needs every permission of other roles.
        """
        if self.state.registration == self.request_id:
            return self._render()
        await self._establish(username, email, password, full_name, ["user"] if roles is None else roles)
        self.tell(CONFIRMATION_TYPE, self.id, "recover" if password is None else "welcome", email=self.state.email)
        if is_administrator(self.state.roles, "active"):
            self.tell(administrators.TYPE, administrators.ID, "join", user=self.id, version=self.version)
        record(self, "user.registered", target=self.id)
        return self._render(changes=1)

    @command(allow=services(), confidential=True)
    async def install(self, username: Username, password: Password) -> None:
        """Create the first administrator, unless this user exists or has been erased."""
        if not (self.state.username or self.state.erased):
            await self._reserve(username, None, password)
            self._create(username, None, "", ["admin"])
            record(self, "user.registered", target=self.id)
            self.tell(administrators.TYPE, administrators.ID, "join", user=self.id, version=self.version)

    @command(allow=services())
    async def holds(self, account: str) -> bool:
        """Return True if this user has the login name of this account.

        Drops an address that was announced but not taken. Raises `not-found` if the user doesn't exist. This
        is a command so that a registration under an earlier owner of this object is decided before the answer.
        """
        self._check_exists()
        if self.state.announced and account_id(self.state.announced.email) == account:
            self.state.announced = None
        names = [self.state.username, *([self.state.email] if self.state.email else [])]
        return account in map(account_id, names)

    @command(allow=services())
    async def confirm_email(self, email: str) -> None:
        """Mark this e-mail address as verified, if the user still has it."""
        self._check_exists()
        if email == self.state.email and not self.state.email_verified:
            self.state.email_verified = True
            self.state.updated_at = self.now

    @command(allow=services())
    async def announce_email(self, email: str, change: str) -> None:
        """Announce that the user is about to take an e-mail address. Call this before reserving the address."""
        self._check_exists()
        self.state.announced = Announced(email, change)

    @command(allow=services())
    async def take_email(self, email: str, change: str) -> None:
        """Take the e-mail address that this change has announced and reserved, and release the former one.

        Raises `conflict` if the announcement was dropped in favour of another user.
        """
        self._check_exists()
        state = self.state
        if state.email == email:
            return
        if state.announced != Announced(email, change):
            raise Failure("conflict", "another user asked for this address at the same time: try again")
        if state.email is not None and account_id(state.email) != account_id(email):
            self.tell(ACCOUNT_TYPE, account_id(state.email), "free_email", user=self.id)
        state.email, state.email_verified, state.announced = email, True, None
        state.updated_at = self.now

    @query(allow=services(), reentrant=True)
    async def show(self) -> User:
        """Return the user to a service."""
        self._check_exists()
        return self._render()

    @query(allow=services())
    async def is_erased(self) -> bool:
        """Return True if the user with this ID has been erased."""
        return self.state.erased

    @query(allow=authenticated())
    async def read(self) -> User:
        """Return the user. Callers other than the user need `users:read`, and otherwise get `not-found`."""
        self._check_visible()
        return self._render()

    @command(allow=authenticated())
    async def replace(
        self,
        full_name: FullName = "",
        settings: dict[str, Any] | None = None,
        roles: Roles | None = None,
        status: Status | None = None,
    ) -> User:
        """Replace the profile. Omitted roles or status remain unchanged."""
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
        """Allow the user to log in again."""
        return await self._set_status("active")

    @command(allow=permission(MANAGE_USERS))
    async def deactivate(self) -> User:
        """Permanently end all sessions and API keys of the user, and refuse new ones."""
        return await self._set_status("deactivated")

    @query(allow=authenticated())
    async def sessions(self) -> SessionPage:
        """Return the user's sessions. Callers other than the user need `users:read`."""
        self._check_visible()
        return await self._load_sessions()

    @command(allow=authenticated())
    async def end_session(self, session: str) -> None:
        """End one session of the user."""
        self._check_manageable()
        self._check_outranks()
        if session not in (each.id for each in (await self._load_sessions()).items):
            raise Failure("not-found", "this session doesn't exist")
        self.tell(ACCOUNT_TYPE, account_id(self.state.username), "end_session", session=session)
        record(self, "session.ended", target=self.id, session=session)

    @command(allow=authenticated())
    async def end_sessions(self) -> None:
        """End every session of the user."""
        self._check_manageable()
        self._check_outranks()
        self.tell(ACCOUNT_TYPE, account_id(self.state.username), "end_sessions")
        record(self, "sessions.ended", target=self.id)

    @command(allow=services())
    async def lose_role(self, role: RoleName) -> None:
        """Revoke a role that was deleted while it was being granted."""
        if not (self.state.username or self.state.erased):
            # Without the deletion, this tell would leave an empty object behind.
            await self.delete()
        elif role in self.state.roles:
            self.state.roles.remove(role)
            self.state.updated_at = self.now
            record(self, "role.changed", target=self.id, reason=", ".join(self.state.roles))
            self._emit_access(self.state.roles, self.state.status)

    def _emit_access(self, roles: list[str], status: Status) -> None:
        self.emit(AccessChanged(roles=[*roles], active=status == "active", version=self.version + 1))

    async def _load_sessions(self) -> SessionPage:
        account = account_id(self.state.username)
        reply = await self.call(ACCOUNT_TYPE, account, "sessions", current=self.caller.session)
        return msgspec.convert(reply, SessionPage)

    @command(allow=authenticated(), confidential=True)
    async def erase(self, password: Password | None = None) -> None:
        """Permanently erase the user's data.

        Users erase themselves with their password. Callers with `users:manage` erase others without it.
        """
        if self.state.erased and (self._caller_manages_users() or self._caller_is_user()):
            return
        self._check_manageable()
        state, account = self.state, account_id(self.state.username)
        if self._caller_is_user():
            await self.call(
                ACCOUNT_TYPE,
                account,
                "check_password",
                password=password or "",
                action="user.erased",
                session=self.caller.session,
            )
        self._check_outranks()
        if is_administrator(state.roles, state.status):
            await self.call(administrators.TYPE, administrators.ID, "leave", user=self.id, version=self.version)
        announced = state.announced.email if state.announced else None
        for name in filter(None, (state.username, state.email, announced)):
            self.tell(ACCOUNT_TYPE, account_id(name), "release", user=self.id)
        for type, method in self.erasure_hooks:
            self.tell(type, self.id, method)
        self.tell(TYPE, self.id, "forget")
        self._emit_access([], "deactivated")
        self.emit(Deleted())
        record(self, "user.erased", target=self.id)
        self.state = UserState(erased=True)

    @command(allow=services())
    async def forget(self) -> None:
        """Complete an erasure by deleting the recorded replies to earlier requests."""
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
        role_names = sorted(set(profile.roles))
        affects_access = (role_names, profile.status) != (sorted(state.roles), state.status)
        if affects_access and not self.caller.has(MANAGE_USERS):
            raise Failure("forbidden", f"only callers with {MANAGE_USERS} may change roles and status")
        self._check_manageable()
        await self._check_roles(profile, f"{within}.roles")
        will_administer = is_administrator(role_names, profile.status)
        if is_administrator(state.roles, state.status) and not will_administer:
            await self.call(administrators.TYPE, administrators.ID, "leave", user=self.id, version=self.version)
        if will_administer:
            self.tell(administrators.TYPE, administrators.ID, "join", user=self.id, version=self.version)
        if await self._lacks_second_factor(role_names):
            self.tell(ACCOUNT_TYPE, account_id(state.username), "end_sessions")
        if affects_access:
            self._emit_access(role_names, profile.status)
            if profile.status != "active":
                self.tell(ACCOUNT_TYPE, account_id(state.username), "end_sessions")
                for type, method in self.deactivation_hooks:
                    self.tell(type, self.id, method)
        self._record_changes(profile, role_names)
        state.full_name, state.settings = profile.full_name, profile.settings
        state.roles, state.status = role_names, profile.status
        state.updated_at = self.now
        return self._render(changes=1)

    async def _lacks_second_factor(self, role_names: list[str]) -> bool:
        """Return True if the roles newly require a second factor, which the user doesn't have."""
        required = self.settings.mfa_required
        if needs_second_factor(required, self.state.roles) or not needs_second_factor(required, role_names):
            return False
        return not await self.call(ACCOUNT_TYPE, account_id(self.state.username), "has_mfa")

    async def _check_roles(self, profile: Profile, field: str) -> None:
        """Raise `forbidden` if the caller lacks a permission of a role that is granted or revoked.

        Changing the status of an administrator needs all permissions of an administrator.
        """
        state = self.state
        if "admin" in state.roles and profile.status != state.status:
            check_grant(self.caller, ROLES["admin"])
        for name in sorted({*profile.roles} - {*state.roles}):
            where = f"{field}[{profile.roles.index(name)}]"
            granted = await load_role(self, name)
            if granted is None:
                raise Failure("invalid", f"there is no role {name!r} for users", field=where)
            check_grant(self.caller, granted.permissions, field=where)
            if not granted.builtin:
                self.tell(roles.TYPE, name, "hold", user=self.id, version=granted.version)
        for name in sorted({*state.roles} - {*profile.roles}):
            revoked = await load_role(self, name)
            check_grant(self.caller, revoked.permissions if revoked else (), field=field)

    def _record_changes(self, profile: Profile, role_names: list[str]) -> None:
        state = self.state
        if profile.status != state.status:
            record(self, "user.activated" if profile.status == "active" else "user.deactivated", target=self.id)
        if role_names != sorted(state.roles):
            record(self, "role.changed", target=self.id, reason=", ".join(role_names))
        by_another = self.caller.subject != self.id
        if by_another and (profile.full_name, profile.settings) != (state.full_name, state.settings):
            record(self, "profile.changed", target=self.id)

    def _check_visible(self) -> None:
        if not self._caller_is_user() and not self.caller.has(READ_USERS):
            raise _no_user()
        self._check_exists()

    def _check_manageable(self) -> None:
        if not self._caller_manages_users():
            self._check_visible()
        self._check_exists()
        if not self._caller_manages_users() and not self._caller_is_user():
            raise Failure("forbidden", f"only callers with {MANAGE_USERS} may change other users")

    def _check_outranks(self) -> None:
        """Raise `forbidden` if this is an administrator, and the caller neither the user nor an administrator."""
        if "admin" in self.state.roles and not self._caller_is_user():
            check_grant(self.caller, ROLES["admin"])

    def _caller_is_user(self) -> bool:
        return self.caller.acts_for(self.id, OWN_PROFILE)

    def _caller_manages_users(self) -> bool:
        return self.caller.has(MANAGE_USERS)

    async def _reserve(self, username: str, email: str | None, password: str) -> None:
        account = account_id(username)
        if email is not None:
            await self._reserve_name(email, "args.email", "reserve_email", user=self.id, primary=account)
        try:
            await self._reserve_name(username, "args.username", "reserve", user=self.id, password=password)
        except Failure:
            if email is not None:
                await self.call(ACCOUNT_TYPE, account_id(email), "release", user=self.id)
            raise

    async def _reserve_name(self, name: str, field: str, method: str, **args: str) -> None:
        try:
            await self.call(ACCOUNT_TYPE, account_id(name), method, **args)
        except Failure as failure:
            if failure.code == "exists":
                raise Failure("exists", f"this {field.partition('.')[2]} is taken", field=field) from None
            raise

    async def _establish(
        self, username: str, email: str, password: str | None, full_name: str, role_names: list[str]
    ) -> None:
        """Become a new user. Without a password, nobody knows it."""
        if not _is_new_id(self.id):
            raise Failure("invalid", "a new user's ID must be a UUID of 32 hexadecimal digits", field="id")
        if self.state.username or self.state.erased:
            raise Failure("exists", "a user with this ID exists or has been erased")
        email = check_email(email)
        if password is not None:
            check_password(password, self.settings.password_min_length, username, email, full_name)
        # The role that everyone gets by registering needs no permission.
        self.state.roles = [name for name in role_names if name == "user"]
        await self._check_roles(Profile(roles=role_names, status="active"), "args.roles")
        await self._reserve(username, email, password or secrets.token_urlsafe(32))
        self._create(username, email, full_name, sorted(set(role_names)))

    def _create(self, username: str, email: str | None, full_name: str, roles: list[str]) -> None:
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

    def _render(self, changes: int = 0) -> User:
        return show(self.id, self.state, self.version + changes)


def _no_user() -> Failure:
    return Failure("not-found", "this user doesn't exist")
