"""`/roles`: what roles allow."""

from __future__ import annotations

import re

from aidevos.contracts import roles
from aidevos.contracts.roles import CreateRoleBody, ReplaceRoleBody, Role, RolePage

from ..http.request import HttpRequest
from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, put
from .parameters import PAGE, variable

ROLES, ROLE = "/roles", "/roles/{name}"
BY_NAME = Target(roles.TYPE, in_path("name", "role", re.compile(roles.NAME_PATTERN).fullmatch))
NEW = Target(roles.TYPE, lambda request, body: body.name)
READ = "Needs `roles:manage`."


def _create(request: HttpRequest, body: CreateRoleBody) -> dict[str, object]:
    return {"permissions": body.permissions, "description": body.description}


class RoleRouter(APIRouter):
    tag = "roles"
    about = "What roles allow"
    needs = "Needs `roles:manage`, and every permission of the role."
    variables = (variable("name", "The role's name", f"^{roles.NAME_PATTERN}$"),)
    rows = (
        get(ROLES, "list_roles", "List all roles, by name", roles.LIST_SUBJECT, RolePage, query=PAGE, needs=READ),
        create(ROLES, "create_role", "Make a role", NEW, Role, CreateRoleBody, args=_create),
        get(ROLE, "read_role", "Show a role", BY_NAME, Role, needs=READ),
        put(ROLE, "replace_role", "Replace a role", BY_NAME, Role, ReplaceRoleBody),
        delete(ROLE, "delete_role", "Delete a role that no user has", (BY_NAME, "remove")),
    )
