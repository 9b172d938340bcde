"""Access rules as store conditions, so that a query itself excludes whatever the caller may not read."""

from __future__ import annotations

from collections.abc import Sequence

from aidevos.contracts.data import Visibility
from aidevos.queries import And, Compare, Condition, Contains, Not, OneOf, Or
from aidevos.security.permissions import Principal

from . import access
from .collection_state import PROJECT
from .terms import Terms

NOTHING = Or(())
NONE = Visibility("none")


def resolve_visibility(terms: Terms | None, caller: Principal) -> Visibility:
    """Return the part of a collection that the caller may read: all items, their own, or none."""
    if terms is None:
        return NONE
    if access.admits_all(terms.rules, "read", caller, collection=terms.name):
        return Visibility("all", terms.incarnation)
    if access.admits(terms.rules, "read", caller, caller.subject, collection=terms.name):
        return Visibility("own", terms.incarnation)
    return NONE


def readable_items(terms: Terms, caller: Principal, now: float, *, indexed: bool = False) -> Condition:
    """Return the condition on item states for the items that the caller may read.

    `indexed` says that the query is for keys in an index anyway, which deleted items don't have.
    """
    live: list[Condition] = [Compare(("incarnation",), "eq", terms.incarnation, scalar=True)]
    if not indexed:
        live.append(Not(Compare(("removed",), "eq", True)))
    if terms.expiring:
        live.append(Not(Compare(("expires_at",), "lte", now)))
    if access.admits_all(terms.rules, "read", caller, collection=terms.name):
        return And(tuple(live))
    if access.admits(terms.rules, "read", caller, caller.subject, collection=terms.name):
        return And((*live, Compare(("owner",), "eq", caller.subject, scalar=True)))
    return NOTHING


def known_collections(caller: Principal, projects: Sequence[str]) -> Condition:
    """Return the condition for the collections that the caller, a member of these projects, may know of.

    The condition admits a few more collections. `access.may_know` is exact.
    """
    exists = Not(Compare(("ending",), "eq", True))
    if caller.has(access.MANAGE_COLLECTIONS):
        return exists
    grants = ["public"]
    if caller.subject:
        grants += ["authenticated", *(f"role:{role}" for role in caller.roles)]
        names = {*caller.permissions, *(name for name, _, _ in caller.narrowed)}
        grants += [f"permission:{name}" for name in sorted(names)]
    known: list[Condition] = [Contains(("grants",), grant) for grant in grants]
    known.append(OneOf(PROJECT, tuple(projects)))
    if caller.subject:
        known.append(Compare(("owner",), "eq", caller.subject))
    return And((exists, Or(tuple(known))))
