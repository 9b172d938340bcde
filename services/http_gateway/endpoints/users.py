"""`/users`: profiles and their sessions; `/roles`: roles and their permissions."""

from __future__ import annotations

import re
from typing import Any

from aidevos.contracts import roles, subjects, users
from aidevos.contracts.authentication import SessionPage
from aidevos.contracts.errors import Failure
from aidevos.contracts.roles import CreateRoleBody, ReplaceRoleBody, Role
from aidevos.contracts.users import CreateUserBody, EraseUserBody, ReplaceUserBody, User

from ..forwarder import new_object_id
from ..http.parameters import PAGE, text, variable
from ..http.request import HttpRequest
from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, patch, post, put

ME = "me"
USERS, USER, SESSIONS = "/users", "/users/{user_id}", "/users/{user_id}/sessions"
ROLES, ROLE = "/roles", "/roles/{name}"
SEARCH = subjects.query(users.TYPE, users.SEARCH)
FILTERS = (
    text("q", "Part of the username, e-mail address or full name", r"^[^\x00-\x1f]{0,100}$"),
    text("role", "Only users with this role", f"^{roles.NAME_PATTERN}$"),
    text("status", "Only users with this status", "^(active|deactivated)$"),
    text("sort", "The order; a minus reverses it", "^-?(created_at|username)$"),
)
READ = "For the user, or with `users:read` for any user."
END = "For the user, or with `users:manage` for any user."
ERASE = "For the user with the password, or with `users:manage` for any user."
MANAGE = "Requires `users:manage`."
CREATE = "Requires `users:manage`, and every permission of roles other than `user`."
INVITED = "It works while registration is closed, too. Without `password`, a mail brings a link that sets one."
READ_ROLES = "Requires `roles:manage`."
_session = in_path("session_id", "session")


def _user(request: HttpRequest, body: Any) -> str:
    id = request.path["user_id"]
    id = request.principal.subject if id == ME else id
    if not subjects.is_id(id):
        raise Failure("not-found", "this user doesn't exist")
    return id


def _end_session(request: HttpRequest, body: None) -> dict[str, str]:
    return {"session": _session(request, body)}


def _create_role(request: HttpRequest, body: CreateRoleBody) -> dict[str, Any]:
    return {"permissions": body.permissions, "description": body.description}


def _new_user(request: HttpRequest, body: CreateUserBody) -> str:
    return new_object_id(request, users.TYPE, body.username, body.email)


NEW = Target(users.TYPE, _new_user)
OF_ID = Target(users.TYPE, _user)
OF_NAME = Target(roles.TYPE, in_path("name", "role", re.compile(roles.NAME_PATTERN).fullmatch))
NEW_ROLE = Target(roles.TYPE, lambda request, body: body.name)


class UserRouter(APIRouter):
    """`/users`."""

    tag = "users"
    about = "Profiles"
    needs = "Users may change their own name and settings; with `users:manage`, every field of any user."
    variables = (variable("user_id", "A user's ID, or `me`"), variable("session_id", "A session's ID"))
    # fmt: off
    rows = (
        get(USERS, "search_users", "Find users", SEARCH, users.UserPage, query=(*PAGE, *FILTERS),
            needs="Requires `users:read`."),
        post(USERS, "create_user", "Create a user", (NEW, "create"), User, CreateUserBody, permission="users:manage",
             location=f"{USERS}/{{id}}", about=INVITED, needs=CREATE),
        get(USER, "read_user", "Show a user", OF_ID, User, needs=READ),
        put(USER, "replace_user", "Replace a user's profile", OF_ID, User, ReplaceUserBody),
        patch(USER, "patch_user", "Change a user's profile", OF_ID, User, ReplaceUserBody),
        delete(USER, "erase_user", "Erase a user's data permanently", (OF_ID, "erase"), body=EraseUserBody,
               optional=True, needs=ERASE),
        get(SESSIONS, "list_user_sessions", "List a user's sessions", (OF_ID, "sessions"), SessionPage, needs=READ),
        delete(SESSIONS, "end_user_sessions", "End every session of a user", (OF_ID, "end_sessions"), needs=END),
        delete(f"{SESSIONS}/{{session_id}}", "end_user_session", "End a session of a user", (OF_ID, "end_session"),
               args=_end_session, needs=END),
        post(f"{USER}/activate", "activate_user", "Reactivate a user", (OF_ID, "activate"), User, needs=MANAGE),
        post(f"{USER}/deactivate", "deactivate_user", "End all sessions of a user and refuse logins",
             (OF_ID, "deactivate"), User, needs=MANAGE),
    )
    # fmt: on


class RoleRouter(APIRouter):
    """`/roles`."""

    tag = "roles"
    about = "Roles and their permissions"
    needs = "Requires `roles:manage`, and every permission of the role."
    variables = (variable("name", "The role's name", f"^{roles.NAME_PATTERN}$"),)
    # fmt: off
    rows = (
        get(ROLES, "list_roles", "List all roles, sorted by name", roles.LIST_SUBJECT, roles.RolePage, query=PAGE,
            needs=READ_ROLES),
        create(ROLES, "create_role", "Create a role", NEW_ROLE, Role, CreateRoleBody, args=_create_role),
        get(ROLE, "read_role", "Show a role", OF_NAME, Role, needs=READ_ROLES),
        put(ROLE, "replace_role", "Replace a role", OF_NAME, Role, ReplaceRoleBody),
        delete(ROLE, "delete_role", "Delete a role that no user has", (OF_NAME, "remove")),
    )
    # fmt: on
