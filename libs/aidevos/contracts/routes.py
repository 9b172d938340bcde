"""Declared routes: HTTP paths that call methods of objects, and the messages of the type `route`.

A path consists of literal segments and variables, each a whole segment: `/shop/{name}/hit`. Its shape
is the path without the variables' names. A route's ID derives from its method and shape, so two routes
with the same method and shape would be the same object: one is created, the other refused.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from aidevos.contracts import subjects
from aidevos.contracts.api_keys import RateLimit
from aidevos.contracts.patterns import whole
from aidevos.contracts.roles import Permission

TYPE = "route"
# The search over all routes, sorted by path.
SEARCH = "search"
LIST_SUBJECT = subjects.query(TYPE, SEARCH)
# The event that every gateway subscribes to: a route was created, replaced or deleted.
CHANGED = f"event.{TYPE}.*.changed"
MANAGE_ROUTES = "routes:manage"

MAX_SEGMENTS = 16
PATH_LIMIT = 512
_LITERAL = r"[A-Za-z0-9._~-]{1,64}"
_VARIABLE = r"\{[a-z][a-z0-9_]{0,47}\}"
PATH_PATTERN = whole(rf"(/({_LITERAL}|{_VARIABLE})){{1,{MAX_SEGMENTS}}}")
ID_TEMPLATE_PATTERN = whole(rf"([^{{}}\x00-\x1f]|{_VARIABLE}){{1,256}}")
_variable = re.compile(r"\{([a-z0-9_]+)\}")
# First segments of the gateway's own paths, present and future.
RESERVED = frozenset(
    {
        ".well-known",
        "access-tokens",
        "api-keys",
        "asyncapi.json",
        "audit",
        "auth",
        "client.js",
        "console",
        "data",
        "dead-letters",
        "docs",
        "durable-objects",
        "events",
        "examples",
        "fleet",
        "health",
        "llms-full.txt",
        "llms.txt",
        "mcp",
        "metrics",
        "openapi.json",
        "projects",
        "rate-limits",
        "roles",
        "routes",
        "tasks",
        "users",
        "webhooks",
    }
)

HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Path = Annotated[str, Meta(pattern=PATH_PATTERN, max_length=PATH_LIMIT, description="A path such as /shop/{name}/hit")]
TypeName = Annotated[str, Meta(pattern=whole(subjects.TYPE_PATTERN))]
MethodName = Annotated[str, Meta(pattern=whole(subjects.METHOD_PATTERN))]
IdTemplate = Annotated[
    str, Meta(pattern=ID_TEMPLATE_PATTERN, description="An object's ID or name; the path's variables stand in braces")
]
CacheSeconds = Annotated[float, Meta(ge=0, le=86_400, description="Seconds for which a query's result may be cached")]


class RouteBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /routes` and `PUT /routes/{id}`, and the arguments of `create` and `replace`.

    Requests of `method` to `path` call `object_method` of the object of this type that `object_id`
    names. Callers need `permission`, if there is one, and whatever the method itself requires. `limits`
    applies to each caller separately.
    """

    method: HttpMethod
    path: Path
    object_type: TypeName
    object_id: IdTemplate
    object_method: MethodName
    permission: Permission | None = None
    limits: RateLimit | None = None
    cache_seconds: CacheSeconds = 0.0


class RouteInfo(RouteBody, kw_only=True):
    """A route as both entry points show it. `version` is the ETag; times are RFC 3339 in UTC."""

    id: str
    version: int
    created_at: str
    updated_at: str


class FindRoutes(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of `query.route.search`, and the parameters of `GET /routes`."""

    limit: int = 50
    cursor: str | None = None


class RoutePage(msgspec.Struct, kw_only=True):
    items: list[RouteInfo]
    next_cursor: str | None = None


def variables(template: str) -> list[str]:
    """Return the names of the variables in a path or an ID template, in order."""
    return _variable.findall(template)


def shape(path: str) -> str:
    """Return a path without its variables' names; paths of one shape match the same requests."""
    return _variable.sub("{}", path)


def route_id(method: str, path: str) -> str:
    """Return the ID of the route with this method and shape: 32 hexadecimal digits."""
    return hashlib.sha256(f"{method} {shape(path)}".encode()).hexdigest()[:32]


def fill(template: str, values: dict[str, str]) -> str:
    """Return an ID template with its variables replaced by the path's values."""
    return _variable.sub(lambda found: values[found[1]], template)
