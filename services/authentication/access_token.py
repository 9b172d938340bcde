"""The record of a token that `aidevos token` has printed.

Promise: a recorded token counts as long as its record exists. If its subject is a user, it counts only while the user
is active, and once the user's roles have changed, it has these. A revocation is an event to which every verifier of
tokens listens.
"""

from __future__ import annotations

import msgspec

from aidevos import BaseDurableObject, Event, Failure, command, inject, permission, query, services
from aidevos.contracts import users
from aidevos.contracts.access_tokens import MANAGE, SEARCH, TYPE, AccessToken, FindTokens, Names, Subject, TokenGrant
from aidevos.contracts.subjects import is_id
from aidevos.contracts.times import rfc3339_of
from aidevos.contracts.users import User
from aidevos.queries import And, Compare, Condition, Find, Search
from aidevos.security.audit import record
from aidevos.settings import Settings

EXPIRES_AT = ("expires_at",)


class AccessTokenState(msgspec.Struct):
    """The rights of a token. Times are in seconds since the epoch.

    `user_roles` are those of the user that the subject names, None if it names none.
    """

    subject: str = ""
    roles: list[str] = []
    permissions: list[str] = []
    created_at: float = 0.0
    expires_at: float = 0.0
    user_roles: list[str] | None = None


class Revoked(Event):
    """The token is no longer valid."""


def find(args: FindTokens) -> Find:
    """Return the store's query for a search."""
    where: list[Condition] = []
    if args.until is not None:
        where.append(Compare(EXPIRES_AT, "lt", args.until.timestamp()))
    return Find(And(tuple(where)), args.limit, EXPIRES_AT, descending=args.sort == "-at")


def show(id: str, state: AccessTokenState, version: int) -> AccessToken:
    """Return the record as callers see it."""
    return AccessToken(
        id=id,
        subject=state.subject,
        roles=state.roles,
        permissions=state.permissions,
        created_at=rfc3339_of(state.created_at),
        expires_at=rfc3339_of(state.expires_at),
    )


class AccessTokenDO(BaseDurableObject[AccessTokenState], type=TYPE, management="read_only"):
    """A token of `aidevos token`."""

    settings: Settings = inject()
    searches = (Search(SEARCH, permission(MANAGE) | services(), FindTokens, find, show, (EXPIRES_AT,)),)

    @command(allow=services(), creates=True)
    async def register(self, subject: Subject, roles: Names, permissions: Names, expires_at: float) -> None:
        """Record a token before it is printed."""
        if self.state.subject:
            raise Failure("exists", "this token has already been recorded")
        user = await self._find_user(subject)
        user_roles = None if user is None else user.roles
        self.state = AccessTokenState(subject, roles, permissions, self.now, expires_at, user_roles)
        record(self, "token.issued", target=self.id, reason=", ".join(roles))

    @query(allow=services())
    async def resolve(self) -> TokenGrant:
        """Return what the token allows now. Raises `not-found` if it was revoked, or if its user has no access."""
        state = self.state
        self._check()
        if state.user_roles is None:
            return TokenGrant(roles=state.roles)
        user = await self._find_user(state.subject)
        if user is None or user.status != "active":
            raise Failure("not-found", "the token's user no longer has access")
        return TokenGrant(roles=state.roles if user.roles == state.user_roles else user.roles, version=user.version)

    @command(allow=permission(MANAGE) | services())
    async def revoke(self) -> None:
        """Revoke the token everywhere, within a second."""
        self._check()
        record(self, "token.revoked", target=self.id)
        self.emit(Revoked())
        await self.delete()

    @command(allow=services())
    async def expire(self) -> None:
        """Delete the record of a token that expired longer ago than tells are kept."""
        if self.state.expires_at + self.settings.tell_age <= self.now:
            await self.delete()

    def _check(self) -> None:
        if not self.state.subject:
            raise Failure("not-found", "this token doesn't exist")

    async def _find_user(self, subject: str) -> User | None:
        if not is_id(subject):
            return None
        try:
            return msgspec.convert(await self.call(users.TYPE, subject, "show"), User)
        except Failure as failure:
            if failure.code == "not-found":
                return None
            raise
