"""An API key: its owner, its permissions, and its lifetime.

Promises: only a key's hash is stored, with a nonce from which the text can be derived again for a
repeated request; that needs the service's secret. Every change is an event, which every process that
has looked the key up receives. A key never allows more than both its scopes and its owner's permissions
at the time of use. A key made for a project is valid only there, and ends with the project. With a key,
a caller can only make further keys, narrow that very key, and revoke it. A key that another one has made
never allows more than that one at the time of use, and ends with it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from datetime import datetime
from typing import Any, NewType

import msgspec

from aidevos import (
    LONGEST_ALARM,
    BaseDurableObject,
    Event,
    Failure,
    Schema,
    command,
    inject,
    permission,
    query,
    services,
)
from aidevos.contracts import projects, users
from aidevos.contracts.api_keys import (
    HOLDER_TYPE,
    MANAGE_KEYS,
    OWN_KEYS,
    SEARCH,
    TYPE,
    Addresses,
    APIKey,
    ApiKeyBody,
    ApiKeyPage,
    FindApiKeys,
    KeyGrant,
    KeyName,
    Moment,
    NewApiKey,
    Overlap,
    RateLimit,
    Scopes,
)
from aidevos.contracts.authentication import ACCOUNT_TYPE, account_id
from aidevos.contracts.merge_patch import merge_patch
from aidevos.contracts.projects import Id as ProjectId
from aidevos.contracts.times import timestamp
from aidevos.contracts.users import User
from aidevos.projects.belongings import project_views
from aidevos.projects.memberships import Memberships, check_role
from aidevos.queries import Search
from aidevos.security import api_keys, scopes
from aidevos.security.audit import record
from aidevos.security.second_factor import needs_second_factor
from aidevos.settings import Settings
from aidevos.work.holders import held_view

from .api_key_state import INDEXES, ApiKeyState, find, restrict, show, shown_fields
from .key_bounds import Bounds, bounds_of, check_within, inherit, to_networks

# The keys of one chain, in which each has made the next.
MAX_GENERATIONS = 5
# Keys that end with the one that made them, in one turn.
STEP = 100
# Seconds that must pass since the recorded use before another one is written.
USE_EVERY = 30.0
# The secret from which the texts of keys are derived.
KeySecret = NewType("KeySecret", bytes)
_body: Schema[ApiKeyBody] = Schema(ApiKeyBody, "args.patch")


class Changed(Event):
    """The key has changed: every process that caches it looks it up again."""


class ApiKeyDO(BaseDurableObject[ApiKeyState], type=TYPE, management="read_only"):
    """An API key. Its ID is a UUID, 32 hexadecimal digits."""

    secret: KeySecret = inject()
    settings: Settings = inject()
    memberships: Memberships = inject()
    views = (*project_views(TYPE, ("project",)), held_view(TYPE, ("owner",)))
    indexes = (("project",), ("owner",))
    searches = (
        Search(
            SEARCH,
            permission(OWN_KEYS) | permission(MANAGE_KEYS),
            FindApiKeys,
            find,
            show,
            INDEXES,
            restrict,
        ),
    )

    @command(allow=permission(OWN_KEYS), confidential=True)
    async def create(
        self,
        name: KeyName,
        scopes: Scopes,
        limits: RateLimit | None = None,
        expires_at: Moment | None = None,
        allowed_addresses: Addresses = [],  # noqa: B006
        project: ProjectId | None = None,
    ) -> NewApiKey:
        """Create the key. Its text is shown only in this response, and to a repeat of the same request."""
        if self.state.made_by == self.request_id:
            return self._new()
        if self.state.owner:
            raise Failure("exists", "a key with this ID exists already")
        if not api_keys.is_id(self.id):
            raise Failure("invalid", "a new key's ID must be a UUID of 32 hexadecimal digits", field="id")
        self._check_scopes(scopes, "args.scopes")
        await self._user(self.caller.subject)
        if project is not None:
            await self._enter(project)
        addresses = to_networks(allowed_addresses, "args.allowed_addresses")
        bounds = Bounds(scopes, limits, _later(expires_at, self.now, "args.expires_at"), addresses)
        if self.caller.key:
            bounds = await self._inherit(bounds)
        await self.call(HOLDER_TYPE, self.caller.subject, "reserve", id=self.id)
        self.state = ApiKeyState(
            name=name,
            owner=self.caller.subject,
            parent=self.caller.key,
            project=project,
            scopes=bounds.scopes,
            limits=bounds.limits,
            expires_at=bounds.expires_at,
            allowed_addresses=bounds.addresses,
            made_by=self.request_id,
            created_at=self.now,
            updated_at=self.now,
        )
        self._renew()
        record(self, "api_key.created", target=self.id)
        return self._new(changes=1)

    @query(allow=permission(OWN_KEYS) | permission(MANAGE_KEYS))
    async def read(self) -> APIKey:
        """Return the key. Callers other than its owner need `keys:manage`; others get `not-found`."""
        self._check_visible()
        return show(self.id, self.state, self.version)

    @command(allow=permission(OWN_KEYS) | permission(MANAGE_KEYS))
    async def patch(self, patch: dict[str, Any]) -> APIKey:
        """Change the name, scopes, limits, expiry or addresses by a JSON merge patch (RFC 7396).

        With an API key, a caller can only narrow the bounds of that very key.
        """
        self._check_visible()
        self._check_own_key()
        state = self.state
        ends = None if state.expires_at is None else timestamp(state.expires_at)
        before = ApiKeyBody(
            name=state.name,
            scopes=state.scopes,
            limits=state.limits,
            expires_at=ends,
            allowed_addresses=state.allowed_addresses,
        )
        after = _body.convert(merge_patch(msgspec.to_builtins(before), patch))
        if after.scopes != before.scopes:
            self._check_scopes(after.scopes, "args.patch.scopes")
        expires_at = state.expires_at
        if after.expires_at != before.expires_at:
            expires_at = _later(after.expires_at, self.now, "args.patch.expires_at")
        addresses = to_networks(after.allowed_addresses, "args.patch.allowed_addresses")
        if self.caller.key:
            if after.name != state.name:
                raise Failure("forbidden", "an API key can't change its own name", field="args.patch.name")
            check_within(Bounds(after.scopes, after.limits, expires_at, addresses), self._bounds(), "args.patch")
        state.name, state.scopes, state.limits = after.name, after.scopes, after.limits
        state.expires_at, state.allowed_addresses = expires_at, addresses
        self._note("api_key.changed")
        return show(self.id, state, self.version + 1)

    @command(allow=permission(OWN_KEYS) | permission(MANAGE_KEYS), confidential=True)
    async def rotate(self, overlap: Overlap = 0.0) -> NewApiKey:
        """Replace the key by a new one; the former key still works for `overlap` seconds.

        Only the owner may do this, after a login, since the new key acts for the owner.
        """
        self._check_visible()
        if self.caller.subject != self.state.owner:
            raise Failure("forbidden", "only the owner can rotate a key; you can revoke it")
        if self.caller.key:
            raise Failure("forbidden", "an API key can't rotate keys; log in")
        state = self.state
        if state.made_by != self.request_id:
            state.former, state.former_until = state.hashed, self.now + overlap
            state.made_by = self.request_id
            self._renew()
            self._note("api_key.rotated")
            return self._new(changes=1)
        return self._new()

    @command(allow=permission(OWN_KEYS) | permission(MANAGE_KEYS))
    async def revoke(self) -> None:
        """Revoke the key and those that it has made, which become invalid everywhere within a second."""
        self._check_visible()
        self._check_own_key()
        record(self, "api_key.revoked", target=self.id)
        await self._end()

    @command(allow=services())
    async def erase(self) -> None:
        """Delete the key because its owner, or the key that made it, was deleted."""
        if self.state.owner:
            await self._end()
        else:
            await self.delete()

    @command(allow=services())
    async def vanish(self, project: str) -> None:
        """Delete the key because its project was deleted."""
        if self.state.project == project:
            await self._end()
        elif not self.state.owner:
            await self.delete()

    @command(allow=services())
    async def sweep(self, cursor: str | None = None) -> None:
        """Delete the keys that this key has made, one batch at a time. It was deleted itself.

        No call waits for one of them, since their look-ups wait for this key.
        """
        found = msgspec.convert(await self.ask(TYPE, SEARCH, parent=self.id, limit=STEP, cursor=cursor), ApiKeyPage)
        for key in found.items:
            self.tell(TYPE, key.id, "erase")
        if found.next_cursor:
            self.tell(TYPE, self.id, "sweep", cursor=found.next_cursor)
        # A turn that only returned would create an object.
        await self.delete()

    @command(allow=services())
    async def confirm(self, key: str) -> None:
        """Delete a key that this key has just made, if this key was deleted in the meantime."""
        if not self.state.owner:
            self.tell(TYPE, key, "erase")
            await self.delete()

    @query(allow=services())
    async def resolve(self, hashed: str, at: float | None = None) -> KeyGrant:
        """Return the grant of the key with this SHA-256, now or at the past time `at` when it was used.

        Raises `not-found` if the key is expired, revoked or deleted, or if its owner has no access now.
        """
        state = self.state
        if hmac.compare_digest(state.hashed, hashed):
            return await self._grant(math.inf, at)
        return await self._grant(state.former_until if hmac.compare_digest(state.former, hashed) else 0.0, at)

    @query(allow=services())
    async def grant(self, at: float | None = None) -> KeyGrant:
        """Return the key's grant, now or at the past time `at`, for a service that acts for its owner.

        Raises `not-found`.
        """
        return await self._grant(math.inf, at)

    @command(allow=services(), confidential=True, keeps_version=True)
    async def used(self, at: float) -> None:
        """Record the time of use, unless the recorded one is recent."""
        if not self.state.owner:
            # The key was revoked in the meantime, and a turn that only returned would create an object.
            await self.delete()
        elif at >= (self.state.last_used_at or 0.0) + USE_EVERY:
            self.state.last_used_at = at

    async def _grant(self, until: float, at: float | None = None) -> KeyGrant:
        state = self.state
        ends = min(state.expires_at or math.inf, until)
        if not state.owner or ends <= (self.now if at is None else at):
            raise _dead()
        parent = await self._load_grant(state.parent, at) if state.parent else None
        roles, version = (parent.roles, parent.version) if parent else await self._load_roles()
        grant = KeyGrant(
            id=self.id,
            owner=state.owner,
            roles=roles,
            version=version,
            scopes=state.scopes,
            limits=state.limits,
            expires_at=None if ends == math.inf else ends,
            allowed_addresses=state.allowed_addresses,
            project=state.project,
        )
        inherited = inherit(grant, parent) if parent else grant
        if inherited is None:
            raise _dead()
        return inherited

    async def _load_roles(self) -> tuple[list[str], int]:
        """Return the owner's roles, and the owner's version that has them."""
        user = await self._user(self.state.owner)
        if user.status != "active" or await self._lacks_second_factor(user):
            raise _dead()
        return user.roles, user.version

    async def _lacks_second_factor(self, user: User) -> bool:
        if not needs_second_factor(self.settings.mfa_required, user.roles):
            return False
        return not await self.call(ACCOUNT_TYPE, account_id(user.username), "has_mfa")

    async def _load_grant(self, key: str, at: float | None = None) -> KeyGrant:
        return msgspec.convert(await self.call(TYPE, key, "grant", at=at), KeyGrant)

    async def _inherit(self, bounds: Bounds) -> Bounds:
        """Return the bounds of a new key, with those of the caller's key that aren't given.

        Raises `forbidden` if one that is given is wider.
        """
        parent = await self._load_grant(self.caller.key)
        if len(parent.parents) + 1 >= MAX_GENERATIONS:
            raise Failure("conflict", f"API keys can make further ones for {MAX_GENERATIONS} generations at most")
        bounds = Bounds(
            bounds.scopes,
            parent.limits if bounds.limits is None else bounds.limits,
            parent.expires_at if bounds.expires_at is None else bounds.expires_at,
            bounds.addresses or parent.allowed_addresses,
        )
        check_within(bounds, bounds_of(parent), "args")
        self.tell(TYPE, parent.id, "confirm", key=self.id)
        return bounds

    def _bounds(self) -> Bounds:
        state = self.state
        return Bounds(state.scopes, state.limits, state.expires_at, state.allowed_addresses)

    async def _end(self) -> None:
        self.emit(Changed())
        self.tell(TYPE, self.id, "sweep")
        self.tell(HOLDER_TYPE, self.state.owner, "release", id=self.id)
        await self.delete()

    def _renew(self) -> None:
        self.state.nonce = secrets.token_hex(32)
        key = self._key()
        self.state.hashed, self.state.hint = key.hashed, key.hint

    def _key(self) -> api_keys.KeyText:
        derived = hmac.digest(self.secret, f"{self.id}.{self.state.nonce}".encode(), hashlib.sha256)
        return api_keys.make(self.id, derived)

    def _new(self, changes: int = 0) -> NewApiKey:
        return NewApiKey(**shown_fields(self.id, self.state, self.version + changes), key=self._key().text)

    def _note(self, action: str) -> None:
        self.state.updated_at = self.now
        self.emit(Changed())
        record(self, action, target=self.id)

    def _check_scopes(self, asked: list[str], field: str) -> None:
        for number, scope in enumerate(asked):
            name, attribute, value = scopes.parse(scope, f"{field}[{number}]")
            if not self.caller.has(name, **({attribute: value} if attribute else {})):
                if name == scopes.EVERYTHING and not self.caller.key:
                    continue
                raise Failure("forbidden", f"you don't have {scope} yourself", field=f"{field}[{number}]")

    async def _enter(self, project: str) -> None:
        role = await self.memberships.find_role(self, project, self.caller)
        if role is None:
            raise Failure("invalid", "this project doesn't exist", field="args.project")
        check_role(role, "maintainer")
        self.tell(projects.TYPE, project, "confirm", type=TYPE, id=self.id)

    def _check_visible(self) -> None:
        if not self.state.owner or not (self.caller.subject == self.state.owner or self.caller.has(MANAGE_KEYS)):
            raise Failure("not-found", "this API key doesn't exist")

    def _check_own_key(self) -> None:
        if self.caller.key not in ("", self.id):
            raise Failure("forbidden", "an API key can't change other keys; log in")

    async def _user(self, id: str) -> User:
        try:
            return msgspec.convert(await self.call(users.TYPE, id, "show"), User)
        except Failure as failure:
            if failure.code in ("not-found", "invalid"):
                raise Failure("forbidden", "only users can have API keys") from None
            raise


def _later(moment: datetime | None, now: float, field: str) -> float | None:
    if moment is None:
        return None
    if moment.timestamp() <= now:
        raise Failure("invalid", "this time has passed", field=field)
    if moment.timestamp() > now + LONGEST_ALARM:
        raise Failure(
            "invalid", "a key must expire within 100 years; omit this for one that doesn't expire", field=field
        )
    return moment.timestamp()


def _dead() -> Failure:
    return Failure("not-found", "this key doesn't exist or is no longer valid")
