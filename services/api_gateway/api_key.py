"""An API key: its owner, its permissions, and its lifetime.

Promises: only a key's hash is stored, with a nonce from which the text can be derived again for a
repeated request; that needs the service's secret. Every change is an event, which every process that
has looked the key up receives. A key never allows more than both its scopes and its owner's permissions
at the time of use. A key made for a project is valid only there, and ends with the project.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
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
    MANAGE_KEYS,
    OWN_KEYS,
    SEARCH,
    TYPE,
    Addresses,
    APIKey,
    ApiKeyBody,
    FindApiKeys,
    KeyGrant,
    KeyName,
    Moment,
    NewApiKey,
    Overlap,
    RateLimit,
    Scopes,
)
from aidevos.contracts.merge_patch import merge_patch
from aidevos.contracts.projects import Id as ProjectId
from aidevos.contracts.times import rfc3339, timestamp
from aidevos.contracts.users import User
from aidevos.projects.belongings import project_views
from aidevos.projects.memberships import Memberships, check_role
from aidevos.queries import And, Compare, Condition, Find, Search
from aidevos.security import api_keys, scopes
from aidevos.security.audit import record
from aidevos.security.permissions import Principal

# Seconds that must pass since the recorded use before another one is written.
USE_EVERY = 30.0
# The secret from which the texts of keys are derived.
KeySecret = NewType("KeySecret", bytes)
_body: Schema[ApiKeyBody] = Schema(ApiKeyBody, "args.patch")


class ApiKeyState(msgspec.Struct):
    """The stored state; times are in seconds since the epoch.

    The key's text is derived from `nonce`. `former` is the hash of the key before a rotation, valid
    until `former_until`. `made_by` is the ID of the request that made the key.
    """

    name: str = ""
    owner: str = ""
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


class Changed(Event):
    """The key has changed: every process that caches it looks it up again."""


def restrict(caller: Principal, args: FindApiKeys) -> FindApiKeys:
    """Return the search that the caller may make: over all keys with `keys:manage`, otherwise over its own."""
    return args if caller.has(MANAGE_KEYS) else msgspec.structs.replace(args, owner=caller.subject)


def find(args: FindApiKeys) -> Find:
    """Return the store's query for a search."""
    where: list[Condition] = [] if args.owner is None else [Compare(("owner",), "eq", args.owner)]
    return Find(And(tuple(where)), args.limit, ("created_at",))


def show(id: str, state: ApiKeyState, version: int) -> APIKey:
    """Return the key's public representation."""
    return APIKey(**_shown(id, state, version))


class ApiKeyDO(BaseDurableObject[ApiKeyState], type=TYPE, management="read_only"):
    """An API key. Its ID is a UUID, 32 hexadecimal digits."""

    secret: KeySecret = inject()
    memberships: Memberships = inject()
    views = project_views(TYPE, ("project",))
    indexes = (("project",),)
    searches = (
        Search(
            SEARCH,
            permission(OWN_KEYS) | permission(MANAGE_KEYS),
            FindApiKeys,
            find,
            show,
            (("created_at",), ("owner", "created_at")),
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
        self.state = ApiKeyState(
            name=name,
            owner=self.caller.subject,
            project=project,
            scopes=scopes,
            limits=limits,
            expires_at=_later(expires_at, self.now, "args.expires_at"),
            allowed_addresses=_networks(allowed_addresses, "args.allowed_addresses"),
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
        """Change the name, scopes, limits, expiry or addresses by a JSON merge patch (RFC 7396)."""
        self._check_visible()
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
        if after.expires_at != before.expires_at:
            state.expires_at = _later(after.expires_at, self.now, "args.patch.expires_at")
        state.name, state.scopes, state.limits = after.name, after.scopes, after.limits
        state.allowed_addresses = _networks(after.allowed_addresses, "args.patch.allowed_addresses")
        self._note("api_key.changed")
        return show(self.id, state, self.version + 1)

    @command(allow=permission(OWN_KEYS) | permission(MANAGE_KEYS), confidential=True)
    async def rotate(self, overlap: Overlap = 0.0) -> NewApiKey:
        """Replace the key by a new one; the former key still works for `overlap` seconds.

        Only the owner may do this, since the new key acts for the owner. If the request itself uses
        another key, that key must allow at least as much.
        """
        self._check_visible()
        if self.caller.subject != self.state.owner:
            raise Failure("forbidden", "only the owner can rotate a key; you can revoke it")
        if self.caller.key not in ("", self.id):
            self._check_scopes(self.state.scopes, "scopes")
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
        """Revoke the key, which becomes invalid everywhere within a second."""
        self._check_visible()
        self._note("api_key.revoked")
        await self.delete()

    @command(allow=services())
    async def erase(self) -> None:
        """Delete the key because its owner was deleted."""
        if self.state.owner:
            self.emit(Changed())
        await self.delete()

    @command(allow=services())
    async def vanish(self, project: str) -> None:
        """Delete the key because its project was deleted."""
        if self.state.project == project:
            self.emit(Changed())
        if self.state.project == project or not self.state.owner:
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
    async def grant(self) -> KeyGrant:
        """Return the key's current grant, for a service that acts for its owner. Raises `not-found`."""
        return await self._grant(math.inf)

    @command(allow=services(), confidential=True, keeps_version=True)
    async def used(self, at: float) -> None:
        """Record the time of use, unless the recorded one is recent."""
        if self.state.owner and at >= (self.state.last_used_at or 0.0) + USE_EVERY:
            self.state.last_used_at = at

    async def _grant(self, until: float, at: float | None = None) -> KeyGrant:
        state = self.state
        ends = min(state.expires_at or math.inf, until)
        if not state.owner or ends <= (self.now if at is None else at):
            raise _dead()
        user = await self._user(state.owner)
        if user.status != "active":
            raise _dead()
        return KeyGrant(
            id=self.id,
            owner=state.owner,
            roles=user.roles,
            version=user.version,
            scopes=state.scopes,
            limits=state.limits,
            expires_at=None if ends == math.inf else ends,
            allowed_addresses=state.allowed_addresses,
            project=state.project,
        )

    def _renew(self) -> None:
        self.state.nonce = secrets.token_hex(32)
        key = self._key()
        self.state.hashed, self.state.hint = key.hashed, key.hint

    def _key(self) -> api_keys.KeyText:
        derived = hmac.digest(self.secret, f"{self.id}.{self.state.nonce}".encode(), hashlib.sha256)
        return api_keys.make(self.id, derived)

    def _new(self, changes: int = 0) -> NewApiKey:
        return NewApiKey(**_shown(self.id, self.state, self.version + changes), key=self._key().text)

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

    async def _user(self, id: str) -> User:
        try:
            return msgspec.convert(await self.call(users.TYPE, id, "show"), User)
        except Failure as failure:
            if failure.code in ("not-found", "invalid"):
                raise Failure("forbidden", "only users can have API keys") from None
            raise


def _shown(id: str, state: ApiKeyState, version: int) -> dict[str, Any]:
    return {
        "id": id,
        "name": state.name,
        "hint": state.hint,
        "owner": state.owner,
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


def _networks(addresses: list[str], field: str) -> list[str]:
    found = []
    for number, text in enumerate(addresses):
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise Failure("invalid", str(error), field=f"{field}[{number}]") from None
    return found


def _dead() -> Failure:
    return Failure("not-found", "this key doesn't exist or is no longer valid")
