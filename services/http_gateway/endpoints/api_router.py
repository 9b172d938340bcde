"""The base of all API routers, which makes routes from rows.

Everything is prepared when the gateway starts: a request meets closures that know everything about
their operation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec
from starlette.routing import Route

from aidevos.contracts import subjects
from aidevos.settings import Settings

from ..forwarder import Forwarder
from ..http import bodies, parameters
from ..http.charges import Charges
from ..http.dispatch import Handler, MethodDispatcher
from ..http.guard import Guard
from ..http.parameters import PAGE, Parameter
from ..http.request import HttpRequest
from ..http.responses import JSON_HEADER, SECRET, HttpResponse
from ..http.versions import conditional_response, versioned_response
from .operation import USUAL, Access, Operation, Target

Body = Callable[[HttpRequest, Any], Awaitable[HttpResponse]]
Respond = Callable[[HttpRequest, bytes, str], HttpResponse]


class APIRouter:
    """A part of the HTTP API.

    Subclasses list their `rows`, or decorate handlers with them: `handler(request, body)` for a row
    with a body, otherwise `handler(request)`. `operations` holds all completed rows.
    """

    tag: ClassVar[str]
    # The tag's description; empty if another router has it.
    about: ClassVar[str] = ""
    rows: ClassVar[tuple[Operation, ...]] = ()
    # Defaults for operations that set nothing else; `headers` applies to changes.
    access: ClassVar[Access] = Access.REQUIRED
    permission: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    headers: ClassVar[tuple[str, ...]] = ("Idempotency-Key", "If-Match", "Deadline")
    body_limit: ClassVar[int] = 64 * 1024
    # The variables in the paths, and further types whose schemas are in the document.
    variables: ClassVar[tuple[Parameter, ...]] = ()
    types: ClassVar[tuple[Any, ...]] = ()
    # Schemas of bodies that can't be derived from their types, by name.
    schemas: ClassVar[dict[str, Any]] = {}
    operations: ClassVar[tuple[Operation, ...]] = ()

    def __init_subclass__(cls) -> None:
        handled = [
            msgspec.structs.replace(operation, handler=name)
            for name, function in vars(cls).items()
            for operation in getattr(function, "__operations__", ())
        ]
        cls.operations = tuple(map(cls._complete, (*handled, *cls.rows)))

    def __init__(self, forwarder: Forwarder, settings: Settings, charges: Charges) -> None:
        self._forwarder = forwarder
        self._charges = charges
        self._max_body = settings.max_body

    @classmethod
    def _complete(cls, row: Operation) -> Operation:
        access = row.access or cls.access
        permission = cls.permission if row.permission is None else row.permission
        return msgspec.structs.replace(
            row,
            calls=(row.calls, USUAL[row.method]) if isinstance(row.calls, Target) else row.calls,
            access=access,
            permission=permission,
            needs=cls._needs(access, permission) if row.needs is None else row.needs,
            headers=cls._headers(row, access) if row.headers is None else row.headers,
            limit=cls.body_limit if row.limit is None else row.limit,
            status=row.status or (201 if row.location else 200 if row.response else 204),
        )

    @classmethod
    def _needs(cls, access: Access, permission: str) -> str:
        if access in (Access.PUBLIC, Access.OPEN):
            return ""
        return cls.needs or (f"Requires `{permission}`." if permission else "")

    @classmethod
    def _headers(cls, row: Operation, access: Access) -> tuple[str, ...]:
        if access is Access.PUBLIC:
            return ()
        if row.method != "GET":
            return cls.headers
        return ("If-None-Match", "Deadline") if row.is_versioned else ("Deadline",)

    def routes(self, guard_of: Callable[[Operation], Guard]) -> list[Route]:
        """Return the routes of the operations by path; `guard_of` returns an operation's guard."""
        found: defaultdict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            found[operation.path].append(operation)
        return [Route(path, self._dispatcher(operations, guard_of)) for path, operations in found.items()]

    def _dispatcher(self, operations: list[Operation], guard_of: Callable[[Operation], Guard]) -> MethodDispatcher:
        methods = {each.method: (guard_of(each), self._charged_handler(each)) for each in operations}
        if any(each.any_query for each in operations):
            return MethodDispatcher(methods, None)
        return MethodDispatcher(methods, {parameter.name for each in operations for parameter in each.query})

    def _charged_handler(self, row: Operation) -> Handler:
        """Return the handler of an operation, preceded by the charge for the page that it shows."""
        handler, charges = self._handler(row), self._charges
        if PAGE[0] not in row.query:
            return handler

        async def charged(request: HttpRequest) -> HttpResponse:
            await charges.add_page(request, parameters.parse_limit(request.parameters))
            return await handler(request)

        return charged

    def _handler(self, row: Operation) -> Handler:
        """Return the handler of an operation, preceded by the reading of its body."""
        if row.body is None or row.raw:
            own: Handler = getattr(self, row.handler) if row.handler else self._call(row)
            return own
        run: Body = getattr(self, row.handler) if row.handler else self._call(row)
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row.body)
        limit, patches, optional = row.limit or self._max_body, row.patches, row.optional
        nested = bodies.find_nested_field(row.changes or row.body)

        async def decoded(request: HttpRequest) -> HttpResponse:
            content = await request.body(limit, patches=patches)
            if optional and not content:
                content = request.content = b"{}"
            return await run(request, bodies.decode(decoder, content, nested))

        return decoded

    def _call(self, row: Operation) -> Callable[..., Awaitable[HttpResponse]]:
        """Return the handler of an operation that is one call of an object or one query of a view."""
        forwarder, arguments, respond = self._forwarder, _arguments(row), _responder(row)
        within = f"args.{row.within}" if row.within else "args"
        options = forwarder.anonymous_options if row.access is Access.OPEN else forwarder.options
        if isinstance(row.calls, str):
            view = row.calls

            async def ask(request: HttpRequest) -> HttpResponse:
                reply = await forwarder.request_with_body(view, arguments(request, None), options(request))
                return respond(request, reply, "")

            return ask
        if row.calls is None or isinstance(row.calls, Target):
            raise TypeError(f"{row.id} has neither a handler nor an object to call")
        target, method = row.calls
        type, find = target

        async def call(request: HttpRequest, body: Any = None) -> HttpResponse:
            id = find(request, body)
            if row.binds_key:
                await forwarder.bind_key(request)
            subject = subjects.call(type, id, method)
            reply = await forwarder.request_with_body(subject, arguments(request, body), options(request), within)
            return respond(request, reply, id)

        return call


def _arguments(row: Operation) -> Callable[[HttpRequest, Any], bytes]:
    """Return a function that makes the payload of the call from a request and its decoded body."""
    if row.args is not None:
        args = row.args
        return lambda request, body: msgspec.json.encode(args(request, body))
    if row.within:
        before = f'{{"{row.within}":'.encode()
        return lambda request, body: before + request.content + b"}"
    if row.body is not None:
        return lambda request, body: request.content
    if row.query:
        return lambda request, body: parameters.encode_page(request.parameters)
    return lambda request, body: b"{}"


def _responder(row: Operation) -> Respond:
    """Return a function that makes the response from the object's reply."""
    status, location, versions, conditional = row.status, row.location, row.is_versioned, row.is_conditional
    empty = HttpResponse(status, headers=()) if row.response is None else None
    secret = SECRET if row.secret else ()

    def respond(request: HttpRequest, reply: bytes, id: str) -> HttpResponse:
        if empty is not None:
            return empty
        if not versions:
            return HttpResponse(status, reply, (JSON_HEADER, *secret))
        headers = (*secret, (b"location", location.replace("{id}", id).encode())) if location else secret
        response = versioned_response(reply, status, *headers)
        return conditional_response(request, response) if conditional else response

    return respond
