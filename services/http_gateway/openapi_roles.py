"""The part of the API's description that is about roles."""

from __future__ import annotations

import msgspec

from aidevos.contracts import roles
from services.http_gateway.openapi_parts import CHANGE, COMMON, ETAG, Json, content, operation, parameter, reference

TAG = {"name": "roles", "description": "What roles allow"}
NEEDED = "Needs `roles:manage`, and of what a role allows all that is to be decided about."
SHOWN = content("The role", reference("Role"), ETAG)


def schemas() -> Json:
    types = (roles.CreateRoleBody, roles.ReplaceRoleBody, roles.Role, roles.RolePage)
    _, found = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    return found


def parameters() -> Json:
    return {"name": parameter("name", "path", f"^{roles.NAME_PATTERN}$", "The role's name")}


def paths() -> Json:
    made = content("The role", reference("Role"), ETAG | {"Location": {"schema": {"type": "string"}}})
    unchanged = {"304": {"description": "Not modified", "headers": ETAG}}
    return {
        "/roles": {
            "get": operation(
                "list_roles",
                "roles",
                "All roles, by name",
                {"200": content("One page", reference("RolePage"))},
                COMMON,
                parameters=("limit", "cursor", "Deadline"),
                description="Needs `roles:manage`.",
            ),
            "post": _changing("create_role", "Make a role", {"201": made}, reference("CreateRoleBody")),
        },
        "/roles/{name}": {
            "parameters": [{"$ref": "#/components/parameters/name"}],
            "get": operation(
                "read_role",
                "roles",
                "Show a role",
                {"200": SHOWN} | unchanged,
                COMMON,
                parameters=("If-None-Match", "Deadline"),
                description="Needs `roles:manage`.",
            ),
            "put": _changing("replace_role", "Replace a role", {"200": SHOWN}, reference("ReplaceRoleBody")),
            "delete": _changing(
                "delete_role", "Delete a role that no user has", {"204": {"description": "The role is gone"}}
            ),
        },
    }


def _changing(operation_id: str, summary: str, responses: Json, body: Json | None = None) -> Json:
    given = ("Idempotency-Key", "If-Match", "Deadline")
    return operation(operation_id, "roles", summary, responses, CHANGE, parameters=given, body=body, description=NEEDED)
