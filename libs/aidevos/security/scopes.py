"""Scopes: permissions, whole or narrowed to a resource, such as `data:read:collection=orders`.

Promise: a narrowed permission counts only where its resource is compared. The framework compares `id`,
the object's own. A method that declares `narrowed_by` compares that attribute itself. Everywhere else,
a narrowed permission grants nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from aidevos.contracts.errors import Failure

SCOPE_LIMIT = 256
EVERYTHING = "*"
_scope = re.compile(
    r"(?P<permission>[a-z][a-z0-9_]{0,47}:[a-z][a-z0-9_]{0,47})"
    r"(?::(?P<attribute>[a-z][a-z0-9_]{0,47})=(?P<value>[A-Za-z0-9_.@-]{1,128}))?"
).fullmatch

Narrowed = frozenset[tuple[str, str, str]]
NOTHING: Narrowed = frozenset()


def parse(scope: str, field: str = "scopes") -> tuple[str, str, str]:
    """Return (permission, attribute, value) of a scope; the last two are empty if it isn't narrowed.

    Raises `invalid`.
    """
    if scope == EVERYTHING:
        return EVERYTHING, "", ""
    parts = _scope(scope) if len(scope) <= SCOPE_LIMIT else None
    if parts is None:
        raise Failure("invalid", "a scope must be like data:read or data:read:collection=orders", field=field)
    return parts["permission"], parts["attribute"] or "", parts["value"] or ""


def covers(held: Iterable[str], scope: str) -> bool:
    """True if one of the held scopes grants everything that `scope` grants."""
    return not {EVERYTHING, scope, parse(scope)[0]}.isdisjoint(held)


def intersect(scopes: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return scopes that grant exactly what both sequences grant."""
    shared = [scope for scope in scopes if covers(others, scope)]
    return shared + [scope for scope in others if covers(scopes, scope) and not covers(shared, scope)]


def grant(scopes: Iterable[str], held: frozenset[str]) -> tuple[frozenset[str], Narrowed]:
    """Return the permissions that scopes grant out of those that are held: the whole ones and the narrowed ones."""
    whole: set[str] = set()
    narrowed: set[tuple[str, str, str]] = set()
    for permission, attribute, value in map(parse, scopes):
        if permission == EVERYTHING:
            whole |= held
        elif permission in held or EVERYTHING in held:
            if attribute:
                narrowed.add((permission, attribute, value))
            else:
                whole.add(permission)
    return frozenset(whole), frozenset(narrowed)
