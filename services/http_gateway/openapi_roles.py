"""The part of the API's description that is about roles."""

from __future__ import annotations

from aidevos.contracts import roles

from .openapi_parts import (
    ETAG,
    LOCATION,
    UNCHANGED,
    Json,
    Section,
    content,
    given,
    parameter,
    reference,
    schemas_of,
)

TAG = {"name": "roles", "description": "What roles allow"}
ROLES = Section("roles", "Needs `roles:manage`, and of what a role allows all that is to be decided about.")
READ = "Needs `roles:manage`."
SHOWN = content("The role", reference("Role"), ETAG)


def schemas() -> Json:
    return schemas_of(roles.CreateRoleBody, roles.ReplaceRoleBody, roles.Role, roles.RolePage)


def parameters() -> Json:
    return {"name": parameter("name", "path", f"^{roles.NAME_PATTERN}$", "The role's name")}


def paths() -> Json:
    made = content("The role", reference("Role"), ETAG | LOCATION)
    page = {"200": content("One page", reference("RolePage"))}
    return {
        "/roles": {
            "get": ROLES.reading("list_roles", "All roles, by name", page, ("limit", "cursor", "Deadline"), READ),
            "post": ROLES.changing("create_role", "Make a role", {"201": made}, reference("CreateRoleBody")),
        },
        "/roles/{name}": {
            **given("name"),
            "get": ROLES.reading("read_role", "Show a role", {"200": SHOWN} | UNCHANGED, needs=READ),
            "put": ROLES.changing("replace_role", "Replace a role", {"200": SHOWN}, reference("ReplaceRoleBody")),
            "delete": ROLES.changing(
                "delete_role", "Delete a role that no user has", {"204": {"description": "The role is gone"}}
            ),
        },
    }
