"""The methods of one path, and the checks that every request passes before its handler runs.

The order is: the path has the method (405), the caller is admitted (401, 403, 429), the query
parameters are known (422).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.types import Receive, Scope, Send

from . import parameters
from .guard import Guard
from .request import PRINCIPAL, HttpRequest, headers_of
from .responses import HttpResponse, MethodNotAllowed, send_response

Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class MethodDispatcher:
    """An ASGI application that maps the methods of one path to handlers; GET also serves HEAD.

    With None for `parameters`, the handlers take any query parameters and judge them.
    """

    def __init__(self, methods: Mapping[str, tuple[Guard, Handler]], parameters: Iterable[str] | None = ()) -> None:
        self._methods = dict(methods)
        self._parameters = None if parameters is None else frozenset(parameters)
        if "GET" in self._methods:
            self._methods["HEAD"] = self._methods["GET"]
        self._allowed = ", ".join(sorted(self._methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._methods.get(scope["method"])
        if found is None:
            raise MethodNotAllowed(scope["method"], self._allowed)
        guard, handler = found
        headers = headers_of(scope)
        principal = scope[PRINCIPAL] = await guard.admit(scope, headers)
        query: bytes = scope["query_string"]
        values = parameters.parse(query, self._parameters) if query else {}
        await send_response(await handler(HttpRequest(scope, receive, headers, principal, values)), send)
