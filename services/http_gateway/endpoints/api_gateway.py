"""`/api-keys`: keys for programs; `/routes`: declared routes; `/rate-limits`: rate limits of callers."""

from __future__ import annotations

from aidevos.contracts import api_keys, rate_limits, routes, subjects
from aidevos.contracts.api_keys import APIKey, NewApiKey
from aidevos.contracts.rate_limits import RateLimits
from aidevos.contracts.routes import RouteBody, RouteInfo

from ..http.parameters import PAGE, text, variable
from .api_router import APIRouter
from .operation import Target, create, delete, get, in_path, patch, post, put

KEYS, KEY = "/api-keys", "/api-keys/{key_id}"
ROUTES, ROUTE = "/routes", "/routes/{route_id}"
LIMITS = "/rate-limits"
SEARCH_KEYS = subjects.query(api_keys.TYPE, api_keys.SEARCH)
API_KEY = Target(api_keys.TYPE, in_path("key_id", "API key"))
OWNER = text("owner", "Only keys of this user, for callers with `keys:manage`", "^.{0,128}$")
PARENT = text("parent", "Only the keys that the key with this ID has made", "^.{0,128}$")
SCOPES = (
    "No scope can exceed the caller's permissions. For a `project`, the caller must be a maintainer or an owner. "
    "A key that is created with an API key has the bounds of that key that the body leaves out, can't have wider ones, "
    "and ends with that key."
)
NARROW = "With an API key, a caller can only narrow the bounds of that very key."
REVOKE = "The keys that it has made end with it. With an API key, a caller can only revoke that very key."
ROTATE = "For the owner, with the token of a login."
DECLARED = Target(routes.TYPE, in_path("route_id", "route"))
NEW_ROUTE = Target(routes.TYPE, lambda request, body: routes.route_id(body.method, body.path))
POLICIES = Target(rate_limits.TYPE, lambda request, body: rate_limits.ID)
SOON = "They apply everywhere within a second."


class ApiKeyRouter(APIRouter):
    """`/api-keys`."""

    tag = "api-keys"
    about = "Keys for programs"
    needs = "Requires `keys:self`, or `keys:manage` for other users' keys."
    variables = (variable("key_id", "A key's ID"),)
    # fmt: off
    rows = (
        get(KEYS, "list_api_keys", "List API keys", SEARCH_KEYS, api_keys.ApiKeyPage, query=(*PAGE, OWNER, PARENT)),
        create(KEYS, "create_api_key", "Create an API key", api_keys.TYPE, NewApiKey, api_keys.CreateApiKeyBody,
               secret=True, about=SCOPES),
        get(KEY, "read_api_key", "Show an API key", API_KEY, APIKey),
        patch(KEY, "change_api_key", "Change an API key", API_KEY, APIKey, api_keys.ApiKeyBody, about=NARROW),
        delete(KEY, "revoke_api_key", "Revoke an API key everywhere, within a second", (API_KEY, "revoke"),
               about=REVOKE),
        post(f"{KEY}/rotate", "rotate_api_key", "Replace an API key by a new one", (API_KEY, "rotate"), NewApiKey,
             api_keys.RotateBody, optional=True, secret=True, about=ROTATE),
    )
    # fmt: on


class RouteRouter(APIRouter):
    """`/routes`, where routes are declared; `declared_routes` serves them."""

    tag = "routes"
    about = "Custom paths that call methods of objects"
    needs = f"Requires `{routes.MANAGE_ROUTES}`."
    body_limit = 16 * 1024
    variables = (variable("route_id", "A route's ID"),)
    # fmt: off
    rows = (
        get(ROUTES, "list_routes", "List all declared routes, by path", routes.LIST_SUBJECT, routes.RoutePage,
            query=PAGE),
        create(ROUTES, "create_route", "Declare a route", NEW_ROUTE, RouteInfo, RouteBody, within="route"),
        get(ROUTE, "read_route", "Show a route", DECLARED, RouteInfo),
        put(ROUTE, "replace_route", "Replace a route", DECLARED, RouteInfo, RouteBody, within="route"),
        delete(ROUTE, "delete_route", "Delete a route", (DECLARED, "remove")),
    )
    # fmt: on


class RateLimitRouter(APIRouter):
    """`/rate-limits`."""

    tag = "rate-limits"
    about = "Rate limits of callers"
    permission = rate_limits.MANAGE_LIMITS
    body_limit = 256 * 1024
    # fmt: off
    rows = (
        get(LIMITS, "read_rate_limits", "Show the rate limits", POLICIES, RateLimits),
        put(LIMITS, "replace_rate_limits", "Set the rate limits", POLICIES, RateLimits, rate_limits.RateLimitsBody,
            about=SOON),
    )
    # fmt: on
