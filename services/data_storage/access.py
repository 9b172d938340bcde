"""Who may do what in a collection; nothing here waits for anything.

Promise: nobody is admitted whom no grant of the rule names, but administrators. Apart from `public`,
a grant is good only for callers whose token allows reading or writing of data at all.
"""

from __future__ import annotations

from typing import Literal, get_args

from aidevos.contracts.data import Grants, Rules
from aidevos.contracts.errors import Failure
from aidevos.security.permissions import Principal

Operation = Literal["read", "create", "update", "delete"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
READ = "data:read"
WRITE = "data:write"
CREATE_COLLECTIONS = "collections:create"
MANAGE_COLLECTIONS = "collections:manage"


def grants_of(rules: Rules, operation: Operation) -> list[str]:
    grants: Grants = getattr(rules, operation)
    return [grants] if isinstance(grants, str) else grants


def admits(rules: Rules, operation: Operation, caller: Principal, owner: str, *, collection: str) -> bool:
    """Whether the caller may do this to something of this owner."""
    return admits_all(rules, operation, caller, collection=collection) or (
        bool(owner)
        and caller.subject == owner
        and caller.has(_needed(operation), collection=collection)
        and "owner" in grants_of(rules, operation)
    )


def admits_all(rules: Rules, operation: Operation, caller: Principal, *, collection: str) -> bool:
    """Whether the caller may do this whoever the owner is."""
    if caller.has(MANAGE_COLLECTIONS, collection=collection):
        return True
    known = caller.has(_needed(operation), collection=collection)
    return any(
        grant == "public" or (known and _names(grant, caller, collection)) for grant in grants_of(rules, operation)
    )


def knows(rules: Rules, caller: Principal, owner: str, *, collection: str) -> bool:
    """Whether the caller may know that there is this owner's collection: something in it could be for
    the caller, or may be made by it."""
    return (
        administers(caller, owner, collection=collection)
        or admits(rules, "read", caller, owner, collection=collection)
        or admits(rules, "create", caller, owner, collection=collection)
    )


def administers(caller: Principal, owner: str, *, collection: str) -> bool:
    """Whether the caller may change the configuration of this owner's collection."""
    owns = bool(owner) and caller.subject == owner and caller.has(WRITE, collection=collection)
    return owns or caller.has(MANAGE_COLLECTIONS, collection=collection)


def makes(caller: Principal, *, collection: str, project: str | None = None) -> bool:
    """Whether the caller may make a collection of this name, for a project in which that counts."""
    if caller.project and caller.project != project:
        return False
    return caller.has(CREATE_COLLECTIONS, collection=collection) and caller.has(WRITE, collection=collection)


def no_item() -> Failure:
    """The answer for what isn't there, and for what the caller may not know of."""
    return Failure("not-found", "there is no such item")


def no_collection() -> Failure:
    return Failure("not-found", "there is no such collection")


def _needed(operation: Operation) -> str:
    return READ if operation == "read" else WRITE


def _names(grant: str, caller: Principal, collection: str) -> bool:
    kind, _, name = grant.partition(":")
    if kind == "role":
        return name in caller.roles
    if kind == "permission":
        return caller.has(name, collection=collection)
    return grant == "authenticated"
