"""What the members of its project may do in a collection.

Promise: nobody else is let in by any rule, but administrators. The project owns the collection: what is
for its owner is for the project's maintainers and owners, and for nobody who is none any more.
"""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import Rules
from aidevos.contracts.projects import Role
from aidevos.projects.memberships import Memberships, QueryClient, may_maintain
from aidevos.security.permissions import Principal

from .access import MANAGE_COLLECTIONS, OPERATIONS, Operation, grants_of
from .terms import Terms


async def terms_for(caller: Principal, terms: Terms, memberships: Memberships, asker: QueryClient) -> Terms | None:
    """The terms as they count for the caller; None for who is no member of the collection's project, and for an
    API key that counts in another one alone."""
    if caller.project and caller.project != terms.project:
        return None
    if terms.project is None or caller.has(MANAGE_COLLECTIONS, collection=terms.name):
        return terms
    role = await memberships.find_role(asker, terms.project, caller)
    if role is None:
        return None
    owner = caller.subject if may_maintain(role) else ""
    return msgspec.structs.replace(terms, owner=owner, rules=rules_for(role, terms.rules))


def rules_for(role: Role, rules: Rules) -> Rules:
    """The rules of a project's collection as they count for a member of this role."""

    def meant(operation: Operation) -> list[str]:
        grants = set(grants_of(rules, operation))
        if operation == "read" or "public" in grants or ("owner" in grants and may_maintain(role)):
            grants.add("authenticated")
        return sorted(grants - {"owner", "public"})

    return Rules(**{operation: meant(operation) for operation in OPERATIONS})
