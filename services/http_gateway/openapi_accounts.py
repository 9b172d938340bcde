"""The part of the API's description that is about accounts."""

from __future__ import annotations

from aidevos.contracts import authentication, roles, users
from aidevos.contracts.envelope import JSON

from . import openapi_mfa
from .bodies import MERGE_PATCH
from .openapi_parts import (
    CHANGE,
    CHANGING,
    COMMON,
    ETAG,
    LOCATION,
    READING,
    UNCHANGED,
    Json,
    content,
    given,
    operation,
    parameter,
    reference,
    schemas_of,
    sent,
)

OPEN_CALL = (400, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504)
SHOWN = content("The user", reference("User"), ETAG)
CHANGED = {"204": {"description": "Changed; every other session ends"}}
TOKENS = {"200": content("Tokens", {"oneOf": [reference("TokenPair"), reference("CookieSession")]})}
GONE = {"204": {"description": "Ended"}}


def tags() -> list[Json]:
    return [
        {"name": "accounts", "description": "Registration, logins and sessions"},
        {"name": "users", "description": "Profiles"},
    ]


def schemas() -> Json:
    found = schemas_of(
        authentication.CookieSession,
        authentication.LoginBody,
        authentication.PasswordBody,
        authentication.RefreshBody,
        authentication.SessionPage,
        authentication.TokenPair,
        authentication.Whoami,
        users.EraseUserBody,
        users.RegisterBody,
        users.ReplaceUserBody,
        users.User,
        users.UserPage,
    )
    return found | openapi_mfa.schemas()


def parameters() -> Json:
    return {
        "all": parameter("all", "query", "^(true|false)$", "Whether every session of the user ends"),
        "cookie": parameter("cookie", "query", "^(true|false)$", "Whether the tokens come as cookies"),
        "q": parameter("q", "query", r"^[^\x00-\x1f]{0,100}$", "A part of the username, address or full name"),
        "role": parameter("role", "query", f"^{roles.NAME_PATTERN}$", "Only users with this role"),
        "status": parameter("status", "query", "^(active|deactivated)$", "Only users of this status"),
        "sort": parameter("sort", "query", "^-?(created_at|username)$", "The order, with a minus from the last on"),
        "session_id": parameter("session_id", "path", None, "As in the list of sessions"),
        "user_id": parameter("user_id", "path", None, "A user's ID, or `me`"),
    } | openapi_mfa.parameters()


def paths() -> Json:
    return {
        "/auth/register": {
            "post": _open(
                "register",
                "Become a user",
                {"201": content("The user", reference("User"), LOCATION)},
                "RegisterBody",
            )
        },
        "/auth/login": {"post": _open("login", "Open a session", TOKENS, "LoginBody", ("cookie",))},
        "/auth/refresh": {
            "post": _open(
                "refresh",
                "Exchange a refresh token for a new pair",
                TOKENS,
                "RefreshBody",
                required=False,
                description="The body, or the cookie of a login with `?cookie=true`.",
            )
        },
        "/auth/logout": {"post": _known("logout", "End this session", GONE, CHANGE, ("all",))},
        "/auth/password": {
            "post": _known("change_password", "Take another password", CHANGED, CHANGE)
            | sent(reference("PasswordBody"))
        },
        "/auth/me": {
            "get": _known("me", "Who the caller is", {"200": content("User and session", reference("Whoami"))}, COMMON)
        },
        "/auth/sessions": {
            "get": _known(
                "list_sessions", "One's own sessions", {"200": content("All", reference("SessionPage"))}, COMMON
            )
        },
        "/auth/sessions/{session_id}": {
            **given("session_id"),
            "delete": _known("end_session", "End one of one's own sessions", GONE, CHANGE),
        },
        "/.well-known/jwks.json": {
            "get": operation(
                "keys",
                "accounts",
                "The public keys of access tokens (RFC 7517)",
                {"200": content("The key set", {"type": "object"})},
                (400, 404, 405, 422, 500, 503),
            )
            | {"security": []}
        },
        "/users": {
            "get": operation(
                "search_users",
                "users",
                "Find users",
                {"200": content("One page", reference("UserPage"))},
                COMMON,
                parameters=("limit", "cursor", "q", "role", "status", "sort", "Deadline"),
                description="Needs `users:read`.",
            )
        },
        "/users/{user_id}": {
            **given("user_id"),
            "get": operation(
                "read_user",
                "users",
                "Show a user",
                {"200": SHOWN, **UNCHANGED},
                COMMON,
                parameters=READING,
                description="Oneself, or with `users:read` anyone.",
            ),
            "put": _changing("replace_user", "Replace a user's profile", reference("ReplaceUserBody")),
            "patch": _patching(),
            "delete": _erasing(),
        },
        "/users/{user_id}/sessions": {
            **given("user_id"),
            "get": operation(
                "list_user_sessions",
                "users",
                "A user's sessions",
                {"200": content("All", reference("SessionPage"))},
                COMMON,
                parameters=("Deadline",),
                description="Oneself, or with `users:read` anyone's.",
            ),
            "delete": _ending("end_user_sessions", "End every session of a user"),
        },
        "/users/{user_id}/sessions/{session_id}": {
            **given("user_id", "session_id"),
            "delete": _ending("end_user_session", "End a session of a user"),
        },
        "/users/{user_id}/activate": {
            **given("user_id"),
            "post": _changing("activate_user", "Let a user log in again"),
        },
        "/users/{user_id}/deactivate": {
            **given("user_id"),
            "post": _changing("deactivate_user", "End a user's sessions, and let it open no other"),
        },
    } | openapi_mfa.paths()


def _open(
    operation_id: str,
    summary: str,
    responses: Json,
    body: str,
    more: tuple[str, ...] = (),
    *,
    required: bool = True,
    description: str = "",
) -> Json:
    failures = OPEN_CALL if operation_id == "register" else (*OPEN_CALL, 401)
    described = operation(
        operation_id,
        "accounts",
        summary,
        responses,
        failures,
        parameters=(*more, "Idempotency-Key", "Deadline"),
        description=description,
    )
    return described | {"security": [], **sent(reference(body), required=required)}


def _changing(operation_id: str, summary: str, body: Json | None = None) -> Json:
    return operation(
        operation_id,
        "users",
        summary,
        {"200": SHOWN},
        CHANGE,
        parameters=CHANGING,
        body=body,
        description="One's own name and settings; with `users:manage` everything, and anyone's.",
    )


def _erasing() -> Json:
    described = operation(
        "erase_user",
        "users",
        "Erase a user's data for good",
        {"204": {"description": "Erased"}},
        CHANGE,
        parameters=CHANGING,
        description="Oneself, with the password, or with `users:manage` anyone.",
    )
    return described | {"requestBody": {"content": {JSON: {"schema": reference("EraseUserBody")}}}}


def _ending(operation_id: str, summary: str) -> Json:
    return operation(
        operation_id,
        "users",
        summary,
        GONE,
        CHANGE,
        parameters=CHANGING,
        description="Oneself, or with `users:manage` anyone's.",
    )


def _patching() -> Json:
    described = _changing("patch_user", "Change a user's profile by a merge patch (RFC 7396)")
    schema = {"type": "object", "description": "A patch of what PUT takes"}
    return described | sent(schema, MERGE_PATCH)


def _known(
    operation_id: str, summary: str, responses: Json, failures: tuple[int, ...], more: tuple[str, ...] = ()
) -> Json:
    return operation(
        operation_id,
        "accounts",
        summary,
        responses,
        failures,
        parameters=(*more, "Deadline"),
        description="Needs the token of a login.",
    )
