"""One operation of the HTTP API as a row, from which everything else about it is derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure

from ..forwarder import new_object_id
from ..http.bodies import MERGE_PATCH
from ..http.parameters import Parameter
from ..http.request import HttpRequest

Find = Callable[[HttpRequest, Any], str]
Function = TypeVar("Function", bound=Callable[..., Any])


class Access(Enum):
    """The callers that an operation admits, before the object applies its own rules."""

    PUBLIC = "everyone, without a rate limit"
    OPEN = "everyone; a credential is ignored"
    OPTIONAL = "everyone; a credential must be valid"
    REQUIRED = "callers with a valid credential"


class Text(NamedTuple):
    """A body that isn't JSON, by its media type."""

    media: str


class Target(NamedTuple):
    """The object that an operation calls; `id` returns its ID for a request and its decoded body."""

    type: str
    id: Find


class Operation(msgspec.Struct, frozen=True):
    """A row; `id` is the `operationId`. None stands for the router's or the usual value."""

    method: str
    path: str
    id: str
    summary: str
    # An object and its method, or the subject of a view; None if a handler does the work.
    calls: Target | tuple[Target, str] | str | None = None
    # The type of the response's body, a tuple of alternatives, or `Text`; None for an empty body.
    response: Any = None
    # The type of the request's body, a tuple of alternatives, or `Text`. It is decoded before the handler runs or the
    # object is called, unless the handler reads the `raw` body itself. An `optional` body may be missing.
    body: Any = None
    raw: bool = False
    optional: bool = False
    # The accepted media types of patches, and the type that they change.
    patches: tuple[str, ...] = ()
    changes: Any = None
    # The largest body in bytes; 0 for the setting AIDEVOS_MAX_BODY.
    limit: int | None = None
    # Makes the method's arguments from the request and its body; by default they are the body or the query.
    args: Callable[[HttpRequest, Any], Any] | None = None
    # The argument that takes the whole body.
    within: str = ""
    query: tuple[Parameter, ...] = ()
    # True if it takes any query parameters, which the handler judges.
    any_query: bool = False
    # Request headers in addition to those that every request may have.
    headers: tuple[str, ...] | None = None
    access: Access | None = None
    # The permission that the gateway itself requires, besides the object's rules.
    permission: str | None = None
    # The callers that may use it, and further remarks, in sentences.
    needs: str | None = None
    about: str = ""
    # By default 200, or 204 without a body; `others` maps further statuses to the types of their bodies, which those of
    # failures have besides problem documents.
    status: int = 0
    others: Mapping[int, Any] = {}
    # A description of the response, if its type's name isn't enough.
    returns: str = ""
    # The path of the created object, with `{id}` for its ID.
    location: str = ""
    # True if the response holds a secret, which no cache may store.
    secret: bool = False
    # True if the body decides which object is created, so that the idempotency key must be bound to the request.
    binds_key: bool = False
    # Failure statuses in addition to the usual ones of such an operation.
    failures: tuple[int, ...] = ()
    # An example of the body; by default it is made from the type's fields.
    example: Any = None
    # The handler's name in the router; set by decorating it.
    handler: str = ""

    def __call__(self, function: Function) -> Function:
        """Make a method of an `APIRouter` the handler of this operation; one method may handle several."""
        function.__operations__ = (self, *getattr(function, "__operations__", ()))  # type: ignore[attr-defined]
        return function

    @property
    def is_versioned(self) -> bool:
        """True if the response shows a version, which is also its `ETag`."""
        return has_version(self.response)

    @property
    def is_conditional(self) -> bool:
        """True if `If-None-Match` can turn the response into a 304."""
        return self.method == "GET" and "If-None-Match" in (self.headers or ())


def has_version(response: Any) -> bool:
    """True if bodies of this type show a version."""
    return "version" in getattr(response, "__struct_fields__", ())


# A row that calls a `Target` without naming a method calls the verb's usual one.
USUAL = {"GET": "read", "PUT": "replace", "PATCH": "patch"}
get, post, put, delete = (partial(Operation, verb) for verb in ("GET", "POST", "PUT", "DELETE"))


def create(path: str, id: str, summary: str, target: str | Target, response: Any, body: Any, **more: Any) -> Operation:
    """Return a POST row that creates an object: a new one of the type `target`, or the target that the body names."""
    if isinstance(target, str):
        type = target
        target = Target(type, lambda request, body: new_object_id(request, type))
    else:
        more |= {"binds_key": True}
    return post(path, id, summary, (target, "create"), response, body, **{"location": f"{path}/{{id}}"} | more)


def patch(
    path: str, id: str, summary: str, calls: Target | None, response: Any, changes: Any, **more: Any
) -> Operation:
    """Return a PATCH row: a merge patch (RFC 7396) of `changes`, which is the method's argument `patch`."""
    summary = f"{summary} by a merge patch (RFC 7396)"
    merge = {"body": dict[str, msgspec.Raw], "patches": (MERGE_PATCH,), "changes": changes, "within": "patch"}
    return Operation("PATCH", path, id, summary, calls, response, **merge | more)


def in_path(variable: str, what: str, is_id: Callable[[str], Any] = subjects.is_id) -> Find:
    """Return a function that reads an object's ID from the path; it raises `not-found` for an invalid ID."""

    def find(request: HttpRequest, body: Any) -> str:
        id = request.path[variable]
        if not is_id(id):
            raise Failure("not-found", f"this {what} doesn't exist")
        return id

    return find
