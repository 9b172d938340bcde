"""The access of a project's members to its collections.

Promise: the rules of a project's collection admit only members of the project and callers with
`collections:manage`. The project owns the collection: the rights of an owner belong to the project's
present maintainers and owners, and end with their role.
"""

from __future__ import annotations

import msgspec

from aidevos.contracts.data import Rules
from aidevos.contracts.projects import Role
from aidevos.projects.memberships import Memberships, QueryClient, may_maintain
from aidevos.security.permissions import Principal

from .access import MANAGE_COLLECTIONS, OPERATIONS, Operation, list_grants
from .terms import Terms


async def resolve_terms(caller: Principal, terms: Terms, memberships: Memberships, client: QueryClient) -> Terms | None:
    """Return the terms that apply to the caller.

    Returns None if the caller is not a member of the collection's project, or uses an API key that is valid
    only in another project.
    """
    if caller.project and caller.project != terms.project:
        return None
    if terms.project is None or caller.has(MANAGE_COLLECTIONS, collection=terms.name):
        return terms
    role = await memberships.find_role(client, terms.project, caller)
    if role is None:
        return None
    owner = caller.subject if may_maintain(role) else ""
    return msgspec.structs.replace(terms, owner=owner, rules=resolve_rules(role, terms.rules))


def resolve_rules(role: Role, rules: Rules) -> Rules:
    """Return the rules of a project's collection that apply to a member with this role."""

    def resolve(operation: Operation) -> list[str]:
        grants = set(list_grants(rules, operation))
        if operation == "read" or "public" in grants or ("owner" in grants and may_maintain(role)):
            grants.add("authenticated")
        return sorted(grants - {"owner", "public"})

    return Rules(**{operation: resolve(operation) for operation in OPERATIONS})
