"""What was decided about callers after their tokens were issued: sessions that ended, access that
changed, and what roles allow today.

Promises: a token whose roles were read before its user's access changed counts with the roles of
today, and not at all when the user is inactive; one that was issued later counts with its own. A
role allows what it allows now. What isn't known is never granted: while the custom roles haven't
been read, a token with one is `unavailable`, and a role that there isn't grants nothing. Memory is
bounded: past the bound the oldest decision is forgotten together with all tokens from before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from aidevos.contracts import subjects
from aidevos.contracts.api_keys import RateLimit
from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security import scopes
from aidevos.security.permissions import ROLES, Principal

Decision = TypeVar("Decision")
MAX_DECISIONS = 200_000


class Key(NamedTuple):
    """An API key's own bounds: it allows no more than its scopes do of what its owner may, and where it has
    a project, nothing outside of that."""

    id: str
    scopes: tuple[str, ...]
    addresses: tuple[str, ...]
    limits: RateLimit | None = None
    project: str = ""


class Claims(NamedTuple):
    """What a valid credential says. `version` is the user's when the roles were read, if it tells."""

    subject: str
    roles: tuple[str, ...]
    permissions: frozenset[str]
    expires_at: float
    issued_at: float
    session: str = ""
    version: int | None = None
    key: Key | None = None


class Change(NamedTuple):
    """A user's access from a moment on, in seconds since the epoch, and from a version of the user on."""

    at: float
    version: int
    roles: tuple[str, ...]
    active: bool

    def concerns(self, claims: Claims) -> bool:
        """Whether a token may show what was before. Issue times have whole seconds: of the same second, it may."""
        if claims.version is not None:
            return claims.version < self.version
        return claims.issued_at <= self.at


class Recent(Generic[Decision]):
    """The last decision for each name, as long as tokens from before it may live. Past the bound the
    oldest is forgotten, and `forgotten` says when it was made."""

    def __init__(self, now: Callable[[], float], limit: int) -> None:
        self.known: OrderedDict[str, tuple[float, Decision]] = OrderedDict()
        self.forgotten = 0.0
        self._now = now
        self._limit = limit

    def put(self, name: str, at: float, decision: Decision) -> None:
        self.known.pop(name, None)
        self.known[name] = (at, decision)
        alive = self._now() - TOKEN_LIFETIME - CLOCK_MARGIN
        while self.known:
            oldest = next(iter(self.known.values()))[0]
            if oldest >= alive:
                if len(self.known) <= self._limit:
                    return
                self.forgotten = max(self.forgotten, oldest)
            self.known.popitem(last=False)


class Access:
    """Judges verified claims by what is known now."""

    def __init__(self, now: Callable[[], float], limit: int = MAX_DECISIONS) -> None:
        self._ended: Recent[None] = Recent(now, limit)
        self._changes: Recent[Change] = Recent(now, limit)
        self._roles: Mapping[str, frozenset[str]] | None = None
        self.ended_sessions = self._ended.known

    def end_session(self, session: str, at: float) -> bool:
        """Note an end; whether something had to be forgotten for it."""
        before = self._ended.forgotten
        self._ended.put(session, at, None)
        return self._ended.forgotten != before

    def change(self, subject: str, change: Change) -> None:
        """Note a change, unless a later one is known: a stream may be read again from an earlier place."""
        known = self._changes.known.get(subject)
        if known is None or known[1].version <= change.version:
            self._changes.put(subject, change.at, change)

    def set_roles(self, roles: Mapping[str, frozenset[str]]) -> bool:
        """Take the custom roles as they are now; whether that changes anything."""
        changed = roles != self._roles
        self._roles = roles
        return changed

    def judge(self, claims: Claims) -> Principal:
        """Who the caller is now; raises `unauthenticated`, and `unavailable` while roles aren't known."""
        roles = self._roles_of(claims)
        granted = claims.permissions.union(*map(self._permissions, roles))
        if claims.key is None:
            return Principal(claims.subject, roles, granted, claims.expires_at, claims.session)
        key = claims.key
        allowed, narrowed = scopes.grant(key.scopes, granted)
        return Principal(
            claims.subject,
            roles,
            allowed,
            claims.expires_at,
            key=key.id,
            narrowed=narrowed,
            addresses=key.addresses,
            limits=key.limits,
            project=key.project,
        )

    def _roles_of(self, claims: Claims) -> tuple[str, ...]:
        if claims.session and claims.issued_at <= self._ended.forgotten:
            raise Failure("unauthenticated", "the token is outdated")
        if claims.issued_at <= self._changes.forgotten and subjects.is_id(claims.subject):
            raise Failure("unauthenticated", "the token is outdated")
        known = self._changes.known.get(claims.subject)
        if known is None or not known[1].concerns(claims):
            return claims.roles
        if not known[1].active:
            raise Failure("unauthenticated", "the user has no access any more")
        return known[1].roles

    def _permissions(self, role: str) -> frozenset[str]:
        if role in ROLES:
            return ROLES[role]
        if self._roles is None:
            raise Failure("unavailable", "what the roles allow is not known yet")
        return self._roles.get(role, frozenset())
