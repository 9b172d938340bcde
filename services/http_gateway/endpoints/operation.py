"""One operation of the HTTP API in one row, from which everything else about it is derived."""

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
    """Whose requests an operation takes, before the object itself judges them."""

    PUBLIC = "everyone, without a rate limit"
    OPEN = "everyone; a credential is ignored"
    OPTIONAL = "everyone; a credential must be valid"
    REQUIRED = "callers with a valid credential"


class Text(NamedTuple):
    """A body that is not JSON, by its media type."""

    media: str


class Target(NamedTuple):
    """The object that an operation calls: `id` finds its ID in a request and its decoded body."""

    type: str
    id: Find


class Operation(msgspec.Struct, frozen=True):
    """A row; `id` is the `operationId`. `None` stands for what the router says of all its operations, or for what is
    usual."""

    method: str
    path: str
    id: str
    summary: str
    # An object and its method, or the subject of a view; None where a handler does the work.
    calls: Target | tuple[Target, str] | str | None = None
    # The type of the response's body, a tuple of alternatives, or `Text`; without one the body is empty.
    answer: Any = None
    # The type of the request's body, a tuple of alternatives, or `Text`. It is decoded before the handler runs or the
    # object is called, unless the handler reads the `raw` body itself. An `optional` one may be left out.
    body: Any = None
    raw: bool = False
    optional: bool = False
    # Kinds of patches that the body may be, and the type of what they change.
    patches: tuple[str, ...] = ()
    changes: Any = None
    # The largest body in bytes; 0 for the setting AIDEVOS_MAX_BODY.
    limit: int | None = None
    # The arguments of the method, made of the request and its body; by default they are the body or the query.
    args: Callable[[HttpRequest, Any], Any] | None = None
    # The argument that is the whole body.
    within: str = ""
    query: tuple[Parameter, ...] = ()
    # Request headers that count beside those of every request.
    headers: tuple[str, ...] | None = None
    access: Access | None = None
    # The permission that the gateway asks for, beside what the object does.
    permission: str | None = None
    # Who may call it, and what else there is to say, in sentences.
    needs: str | None = None
    about: str = ""
    # By default 200, or 204 without an answer; `others` are other successes with the types of their bodies.
    status: int = 0
    others: Mapping[int, Any] = {}
    # What the response is, where its type doesn't tell.
    returns: str = ""
    # The path of what was made, with `{id}` for its ID.
    location: str = ""
    # True if the response holds a secret, which nobody may store.
    secret: bool = False
    # True if the body says which object is made, so that the idempotency key has to be bound to it.
    binds_key: bool = False
    # Statuses of failures beside the usual ones of such an operation.
    failures: tuple[int, ...] = ()
    # An example of the body; by default one is made of the type's fields.
    example: Any = None
    # The handler's name in the router; set by decorating it.
    handler: str = ""

    def __call__(self, function: Function) -> Function:
        """Let a method of an `APIRouter` handle the operation, among others."""
        function.__operations__ = (self, *getattr(function, "__operations__", ()))  # type: ignore[attr-defined]
        return function

    @property
    def versioned(self) -> bool:
        """True if the response shows a version, its `ETag`."""
        return is_versioned(self.answer)

    @property
    def conditional(self) -> bool:
        """True if `If-None-Match` spares the response's body (304)."""
        return self.method == "GET" and "If-None-Match" in (self.headers or ())


def is_versioned(answer: Any) -> bool:
    """True if bodies of this type show a version."""
    return "version" in getattr(answer, "__struct_fields__", ())


# What takes a `Target` alone calls its method of the verb's usual name.
USUAL = {"GET": "read", "PUT": "replace", "PATCH": "patch"}
get, post, put, delete = (partial(Operation, verb) for verb in ("GET", "POST", "PUT", "DELETE"))


def create(path: str, id: str, summary: str, target: str | Target, answer: Any, body: Any, **more: Any) -> Operation:
    """A POST that makes an object: a new one of the type `target`, or the target that the body names."""
    if isinstance(target, str):
        type = target
        target = Target(type, lambda request, body: new_object_id(request, type))
    else:
        more |= {"binds_key": True}
    return post(path, id, summary, (target, "create"), answer, body, **{"location": f"{path}/{{id}}"} | more)


def patch(path: str, id: str, summary: str, calls: Target | None, answer: Any, changes: Any, **more: Any) -> Operation:
    """A change by a merge patch (RFC 7396) of `changes`, which the method takes as its argument `patch`."""
    summary = f"{summary} by a merge patch (RFC 7396)"
    merge = {"body": dict[str, msgspec.Raw], "patches": (MERGE_PATCH,), "changes": changes, "within": "patch"}
    return Operation("PATCH", path, id, summary, calls, answer, **merge | more)


def in_path(variable: str, what: str, is_id: Callable[[str], Any] = subjects.is_id) -> Find:
    """Find an object's ID in the path; a value that can't be an ID raises `not-found`."""

    def find(request: HttpRequest, body: Any) -> str:
        id = request.path[variable]
        if not is_id(id):
            raise Failure("not-found", f"there is no such {what}")
        return id

    return find
