"""Decisions about callers after their tokens were issued: ended sessions, changed access, and current roles.

Promises: if a user's access changed after a token's roles were read, the token has the user's current
roles, and none if the user is inactive. A token issued later has its own roles. A role grants what it
grants now, and unknown roles grant nothing: a role that doesn't exist grants nothing, and until the
custom roles were read, a token with one is `unavailable`. Memory is bounded: past the bound, the oldest
decision is forgotten, and all tokens issued before it are refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from aidevos.contracts import subjects
from aidevos.contracts.api_keys import KeyLimit, RateLimit
from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security import scopes
from aidevos.security.permissions import ROLES, Principal

Decision = TypeVar("Decision")
MAX_DECISIONS = 200_000


class Key(NamedTuple):
    """The bounds of an API key: its scopes limit its owner's permissions, and its project limits where it is valid."""

    id: str
    scopes: tuple[str, ...]
    addresses: tuple[str, ...]
    limits: RateLimit | None = None
    project: str = ""
    parent_limits: tuple[KeyLimit, ...] = ()


class Claims(NamedTuple):
    """The content of a valid credential.

    `version` is the user's version when the roles were read, if known. `record` is the ID of the object that
    stands for a token of `aidevos token`.
    """

    subject: str
    roles: tuple[str, ...]
    permissions: frozenset[str]
    expires_at: float
    issued_at: float
    session: str = ""
    version: int | None = None
    key: Key | None = None
    record: str = ""


class Change(NamedTuple):
    """A user's access since a time, in seconds since the epoch, and since a version of the user."""

    at: float
    version: int
    roles: tuple[str, ...]
    active: bool

    def applies_to(self, claims: Claims) -> bool:
        """True if a token may show an earlier state.

        Issue times have whole seconds, so this includes tokens of the same second.
        """
        if claims.version is not None:
            return claims.version < self.version
        return claims.issued_at <= self.at


class RecentDecisions(Generic[Decision]):
    """The latest decision for each name, kept as long as tokens issued before it may live.

    Past the bound, the oldest decision is forgotten, and `forgotten` is set to its time.
    """

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
    """The judge of verified claims by current knowledge."""

    def __init__(self, now: Callable[[], float], limit: int = MAX_DECISIONS) -> None:
        self._ended: RecentDecisions[None] = RecentDecisions(now, limit)
        self._changes: RecentDecisions[Change] = RecentDecisions(now, limit)
        self._roles: Mapping[str, frozenset[str]] | None = None
        self.ended_sessions = self._ended.known

    def end_session(self, session: str, at: float) -> bool:
        """Record the end of a session; return True if another one had to be forgotten."""
        before = self._ended.forgotten
        self._ended.put(session, at, None)
        return self._ended.forgotten != before

    def change(self, subject: str, change: Change) -> None:
        """Record a change unless a later one is known, since a stream may be read again from an earlier position."""
        known = self._changes.known.get(subject)
        if known is None or known[1].version <= change.version:
            self._changes.put(subject, change.at, change)

    def set_roles(self, roles: Mapping[str, frozenset[str]]) -> bool:
        """Set the current custom roles; return True if they differ from the earlier ones."""
        changed = roles != self._roles
        self._roles = roles
        return changed

    def judge(self, claims: Claims) -> Principal:
        """Return the caller as it is now. Raises `unauthenticated`, or `unavailable` while roles aren't known."""
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
            parent_limits=key.parent_limits,
        )

    def _roles_of(self, claims: Claims) -> tuple[str, ...]:
        if claims.session and claims.issued_at <= self._ended.forgotten:
            raise Failure("unauthenticated", "the token is outdated")
        if claims.issued_at <= self._changes.forgotten and subjects.is_id(claims.subject):
            raise Failure("unauthenticated", "the token is outdated")
        known = self._changes.known.get(claims.subject)
        if known is None or not known[1].applies_to(claims):
            return claims.roles
        if not known[1].active:
            raise Failure("unauthenticated", "the user no longer has access")
        return known[1].roles

    def _permissions(self, role: str) -> frozenset[str]:
        if role in ROLES:
            return ROLES[role]
        if self._roles is None:
            raise Failure("unavailable", "the permissions of the roles aren't known yet")
        return self._roles.get(role, frozenset())
