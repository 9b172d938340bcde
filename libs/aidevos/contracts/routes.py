"""Declared routes: paths of HTTP that lead to methods of objects, and the messages of the type `route`.

A path is made of literal segments and of variables, each a whole segment: `/shop/{name}/hit`. Its shape
is the path without the variables' names, and with the method it is what a route is: so the route's ID
is made of both, and two routes of one shape are the same object, which makes the one and refuses the other.
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
# A search over all routes, in the order of their paths.
SEARCH = "search"
LIST_SUBJECT = subjects.query(TYPE, SEARCH)
# The event that every gateway listens to: a route is there, is another, or is gone.
CHANGED = f"event.{TYPE}.*.changed"
MANAGE_ROUTES = "routes:manage"

MAX_SEGMENTS = 16
PATH_LIMIT = 512
_LITERAL = r"[A-Za-z0-9._~-]{1,64}"
_VARIABLE = r"\{[a-z][a-z0-9_]{0,47}\}"
PATH_PATTERN = whole(rf"(/({_LITERAL}|{_VARIABLE})){{1,{MAX_SEGMENTS}}}")
ID_TEMPLATE_PATTERN = whole(rf"([^{{}}\x00-\x1f]|{_VARIABLE}){{1,256}}")
_variable = re.compile(r"\{([a-z0-9_]+)\}")
# First segments of the gateway's own paths, present and to come.
RESERVED = frozenset(
    {
        ".well-known",
        "api-keys",
        "asyncapi.json",
        "audit",
        "auth",
        "console",
        "data",
        "dead-letters",
        "docs",
        "durable-objects",
        "events",
        "examples",
        "fleet",
        "health",
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
Path = Annotated[str, Meta(pattern=PATH_PATTERN, max_length=PATH_LIMIT, description="As /shop/{name}/hit")]
TypeName = Annotated[str, Meta(pattern=whole(subjects.TYPE_PATTERN))]
MethodName = Annotated[str, Meta(pattern=whole(subjects.METHOD_PATTERN))]
IdTemplate = Annotated[
    str, Meta(pattern=ID_TEMPLATE_PATTERN, description="An object's ID or name; variables of the path stand in braces")
]
CacheSeconds = Annotated[float, Meta(ge=0, le=86_400, description="How long a query's answer may be repeated")]


class RouteBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of `POST /routes` and `PUT /routes/{id}`, and the arguments of `create` and `replace`.

    Requests of `method` to `path` call `object_method` of the object of this type that `object_id` names.
    Callers need `permission`, and what the method itself asks for. `limits` are for each caller.
    """

    method: HttpMethod
    path: Path
    object_type: TypeName
    object_id: IdTemplate
    object_method: MethodName
    permission: Permission
    limits: RateLimit | None = None
    cache_seconds: CacheSeconds = 0.0


class RouteInfo(RouteBody, kw_only=True):
    """A route as both doors show one. `version` is the ETag; times are RFC 3339 in UTC."""

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
    """The names of the variables in a path or an ID template, in their order."""
    return _variable.findall(template)


def shape(path: str) -> str:
    """A path without its variables' names: what paths that take the same requests have in common."""
    return _variable.sub("{}", path)


def route_id(method: str, path: str) -> str:
    """The ID of the one route of this method and shape, 32 hexadecimal digits."""
    return hashlib.sha256(f"{method} {shape(path)}".encode()).hexdigest()[:32]


def fill(template: str, values: dict[str, str]) -> str:
    """An ID template with the path's values in the places of its variables."""
    return _variable.sub(lambda found: values[found[1]], template)
