"""Who may do what: principals, roles as sets of permissions, and the rules that methods declare."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

ROLES: dict[str, frozenset[str]] = {
    "admin": frozenset({"*"}),
    "user": frozenset(
        {
            "profile:self",
            "sessions:self",
            "keys:self",
            "webhooks:self",
            "data:read",
            "data:write",
            "collections:create",
            "projects:create",
            "events:read",
        }
    ),
    "service": frozenset(),
}


class Principal(msgspec.Struct, frozen=True):
    """A caller whose credential was verified. `subject` is a user's ID or `service:<name>`; `session` is
    empty for credentials that don't come from a login."""

    subject: str
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    expires_at: float = 0.0
    session: str = ""

    @property
    def is_service(self) -> bool:
        return "service" in self.roles

    def has(self, permission: str) -> bool:
        return permission in self.permissions or "*" in self.permissions


# A caller that has shown no credential.
ANONYMOUS = Principal("")


class Rule:
    """What a method asks of its caller; rules combine with `|`."""

    def __init__(
        self, text: str, check: Callable[[Principal], bool], permissions: frozenset[str] = frozenset()
    ) -> None:
        self.text = text
        self.check = check
        self.permissions = permissions

    def __or__(self, other: Rule) -> Rule:
        return Rule(
            f"{self.text} or {other.text}",
            lambda who: self.check(who) or other.check(who),
            self.permissions | other.permissions,
        )

    def __str__(self) -> str:
        return self.text


def permission(name: str) -> Rule:
    """Callers that have the permission, for example `counter:write`."""
    return Rule(name, lambda who: who.has(name), frozenset({name}))


def services() -> Rule:
    """Only services: objects that call or tell each other, never a person's token."""
    return Rule("services only", lambda who: who.is_service)


def authenticated() -> Rule:
    """Anyone with a valid credential."""
    return Rule("any caller with a valid credential", lambda who: who is not ANONYMOUS)


def anyone() -> Rule:
    """Everyone, also without a credential; one that is shown must be valid."""
    return Rule("anyone", lambda who: True)
