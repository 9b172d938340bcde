"""Permissions: callers, roles as sets of permissions, and the rules that methods declare."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aidevos.contracts.api_keys import KeyLimit, RateLimit

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
    """A caller whose credential was verified.

    `subject` is a user's ID or `service:<name>`. `session` is empty for credentials that don't come
    from a login. `key` is the ID of an API key. `narrowed` holds (permission, attribute, value) of
    scopes that apply to one resource. `addresses` are the networks from which the key may be used;
    empty means any. `limits` is the key's own rate limit, and `parent_limits` are those of the keys that
    made it, one by another. `project` is the only project in which the
    key is valid; empty means all. `actor` is the service that makes this call for the caller, by a
    delegation.
    """

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
    parent_limits: tuple[KeyLimit, ...] = ()

    @property
    def is_service(self) -> bool:
        return "service" in self.roles and not self.key

    def has(self, permission: str, **resource: str) -> bool:
        """True if the caller has the permission, or has it for a resource with these attributes."""
        if permission in self.permissions or "*" in self.permissions:
            return True
        return bool(self.narrowed) and any((permission, *pair) in self.narrowed for pair in resource.items())

    def acts_for(self, user: str, permission: str) -> bool:
        """True if the caller is this user, or an API key of the user with the permission."""
        return self.subject == user and (not self.key or self.has(permission))

    def for_object(self, id: str) -> Principal:
        """Return the caller with the permissions that it has for the object with this ID."""
        permissions = {permission for permission, attribute, value in self.narrowed if (attribute, value) == ("id", id)}
        return msgspec.structs.replace(self, permissions=self.permissions | permissions) if permissions else self


# The subject of the tokens with which the command `aidevos` itself calls the fleet. No service has this name.
OWNER = "service:cli"
# A caller that sent no credential.
ANONYMOUS = Principal("")


class Rule:
    """A method's requirement of its caller; rules combine with `|`."""

    def __init__(
        self, text: str, check: Callable[[Principal], bool], permissions: frozenset[str] = frozenset()
    ) -> None:
        self.text = text
        self.check = check
        self.permissions = permissions

    def __or__(self, other: Rule) -> Rule:
        return Rule(
            f"{self.text} or {other.text}",
            lambda caller: self.check(caller) or other.check(caller),
            self.permissions | other.permissions,
        )

    def __str__(self) -> str:
        return self.text


def permission(name: str, *, narrowed_by: str = "") -> Rule:
    """Return a rule for callers that have the permission, for example `counter:write`.

    With `narrowed_by`, callers that have the permission only for some value of that attribute are also
    admitted; the method must then compare the value itself.
    """

    def check(caller: Principal) -> bool:
        if caller.has(name):
            return True
        return bool(narrowed_by) and any(scope[:2] == (name, narrowed_by) for scope in caller.narrowed)

    return Rule(name, check, frozenset({name}))


def services() -> Rule:
    """Return a rule for services only: objects that call or tell each other, never a person's token."""
    return Rule("services only", lambda caller: caller.is_service)


def owner() -> Rule:
    """Return a rule for the owner of the fleet, who calls by the command `aidevos` with a token signed by its key."""
    return Rule("the fleet's owner only", lambda caller: caller.is_service and caller.subject == OWNER)


def authenticated() -> Rule:
    """Return a rule for all callers with a valid credential."""
    return Rule("any caller with a valid credential", lambda caller: caller is not ANONYMOUS)


def anyone() -> Rule:
    """Return a rule for everyone, with or without a credential; a credential that is sent must be valid."""
    return Rule("anyone", lambda caller: True)
