"""The access checks of a collection. Nothing here does I/O.

Promise: a caller is admitted only by a grant of the rule, or by `collections:manage`. Every grant
except `public` also requires that the caller's token allows reading or writing data at all.
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


def list_grants(rules: Rules, operation: Operation) -> list[str]:
    """Return the grants of the rule for an operation."""
    grants: Grants = getattr(rules, operation)
    return [grants] if isinstance(grants, str) else grants


def admits(rules: Rules, operation: Operation, caller: Principal, owner: str, *, collection: str) -> bool:
    """Return True if the caller may do this to an item of this owner."""
    return admits_all(rules, operation, caller, collection=collection) or (
        bool(owner)
        and caller.subject == owner
        and caller.has(_needed_permission(operation), collection=collection)
        and "owner" in list_grants(rules, operation)
    )


def admits_all(rules: Rules, operation: Operation, caller: Principal, *, collection: str) -> bool:
    """Return True if the caller may do this to items of every owner."""
    if caller.has(MANAGE_COLLECTIONS, collection=collection):
        return True
    has_permission = caller.has(_needed_permission(operation), collection=collection)
    return any(
        grant == "public" or (has_permission and _is_granted(grant, caller, collection))
        for grant in list_grants(rules, operation)
    )


def may_know(rules: Rules, caller: Principal, owner: str, *, collection: str) -> bool:
    """Return True if the caller may know that this owner's collection exists.

    That is the case if the caller may configure it, or read or create items in it.
    """
    return (
        may_configure(caller, owner, collection=collection)
        or admits(rules, "read", caller, owner, collection=collection)
        or admits(rules, "create", caller, owner, collection=collection)
    )


def may_configure(caller: Principal, owner: str, *, collection: str) -> bool:
    """Return True if the caller may change the configuration of this owner's collection."""
    owns = bool(owner) and caller.subject == owner and caller.has(WRITE, collection=collection)
    return owns or caller.has(MANAGE_COLLECTIONS, collection=collection)


def may_create_collection(caller: Principal, *, collection: str, project: str | None = None) -> bool:
    """Return True if the caller may create a collection of this name in this project.

    The caller's role in the project is not checked here.
    """
    if caller.project and caller.project != project:
        return False
    return caller.has(CREATE_COLLECTIONS, collection=collection) and caller.has(WRITE, collection=collection)


def check_may_create(rules: Rules, caller: Principal, owner: str, *, collection: str) -> None:
    """Raise `forbidden`, or `not-found` if the caller may not know of the collection, unless it may create items."""
    if admits(rules, "create", caller, owner, collection=collection):
        return
    if not may_know(rules, caller, owner, collection=collection):
        raise collection_not_found()
    raise Failure("forbidden", "the collection's rules don't allow you to create items")


def item_not_found() -> Failure:
    """Return the failure for an item that doesn't exist or that the caller may not know of."""
    return Failure("not-found", "this item doesn't exist")


def collection_not_found() -> Failure:
    """Return the failure for a collection that doesn't exist or that the caller may not know of."""
    return Failure("not-found", "this collection doesn't exist")


def _needed_permission(operation: Operation) -> str:
    return READ if operation == "read" else WRITE


def _is_granted(grant: str, caller: Principal, collection: str) -> bool:
    kind, _, name = grant.partition(":")
    if kind == "role":
        return name in caller.roles
    if kind == "permission":
        return caller.has(name, collection=collection)
    return grant == "authenticated"
