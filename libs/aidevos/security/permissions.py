"""Who may do what: principals, roles as sets of permissions, and the rules that methods declare."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aidevos.contracts.api_keys import RateLimit

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
    empty for credentials that don't come from a login, `key` the ID of an API key, and `narrowed` holds
    (permission, attribute, value) of scopes that count for one resource; `addresses` are the networks
    from which the key may be used, none for any; `limits` is the key's own rate limit; `project` is the
    only one in which the key counts, empty for all; `actor` is the service that makes this call for the caller, by
    a delegation."""

    subject: str
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    expires_at: float = 0.0
    session: str = ""
    key: str = ""
    narrowed: frozenset[tuple[str, str, str]] = frozenset()
    addresses: tuple[str, ...] = ()
    limits: RateLimit | None = None
    project: str = ""
    actor: str = ""

    @property
    def is_service(self) -> bool:
        return "service" in self.roles and not self.key

    def has(self, permission: str, **resource: str) -> bool:
        """Whether the caller has the permission, at least for a resource with these attributes."""
        if permission in self.permissions or "*" in self.permissions:
            return True
        return bool(self.narrowed) and any((permission, *pair) in self.narrowed for pair in resource.items())

    def acts_for(self, user: str, permission: str) -> bool:
        """Whether the caller is this user, or an API key of it with the permission."""
        return self.subject == user and (not self.key or self.has(permission))

    def at(self, id: str) -> Principal:
        """The caller before the object with this ID."""
        here = {permission for permission, attribute, value in self.narrowed if (attribute, value) == ("id", id)}
        return msgspec.structs.replace(self, permissions=self.permissions | here) if here else self


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


def permission(name: str, *, narrowed_by: str = "") -> Rule:
    """Callers that have the permission, for example `counter:write`. A method that is `narrowed_by` an
    attribute also lets those in who have it for some value of that, and compares the value itself."""

    def check(who: Principal) -> bool:
        if who.has(name):
            return True
        return bool(narrowed_by) and any(scope[:2] == (name, narrowed_by) for scope in who.narrowed)

    return Rule(name, check, frozenset({name}))


def services() -> Rule:
    """Only services: objects that call or tell each other, never a person's token."""
    return Rule("services only", lambda who: who.is_service)


def authenticated() -> Rule:
    """Anyone with a valid credential."""
    return Rule("any caller with a valid credential", lambda who: who is not ANONYMOUS)


def anyone() -> Rule:
    """Everyone, also without a credential; one that is shown must be valid."""
    return Rule("anyone", lambda who: True)
