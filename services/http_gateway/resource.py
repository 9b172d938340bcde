"""One path and its methods: what every request passes before an endpoint sees it.

In this order: the method is one of the path's (405), the credential holds and carries the path's
permission (401, 403), the query parameters are known (422).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from starlette.types import Receive, Scope, Send

from aidevos.contracts.errors import Failure
from aidevos.durable.access.admission import Admission
from aidevos.durable.access.limiter import RateLimiter, Verdict
from aidevos.durable.access.resolving import resolve_when_ready
from aidevos.security.permissions import ANONYMOUS, Principal

from . import bodies, headers, parameters
from .answers import RATE_LIMIT, Answer, MethodNotAllowed, send_answer
from .connection import CONNECTION, Connection
from .cookies import SAFE_METHODS, Cookies

# Headers that may be sent once; a second one would leave open which of them counts.
_SINGLE = {
    b"authorization": "Authorization",
    b"content-type": "Content-Type",
    b"cookie": "Cookie",
    b"deadline": "Deadline",
    b"idempotency-key": "Idempotency-Key",
    b"origin": "Origin",
    b"sec-fetch-site": "Sec-Fetch-Site",
    b"x-api-key": "X-Api-Key",
}


class Incoming:
    """A request as an endpoint sees it."""

    __slots__ = ("_receive", "_scope", "headers", "parameters", "principal")

    def __init__(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], principal: Principal, values: dict[str, str]
    ) -> None:
        self._scope = scope
        self._receive = receive
        self.headers = headers
        self.principal = principal
        self.parameters = values

    @property
    def path(self) -> dict[str, Any]:
        """The variables in the path."""
        return self._scope["path_params"]  # type: ignore[no-any-return]

    @property
    def target(self) -> str:
        """The method and the path."""
        return f"{self._scope['method']} {self._scope['path']}"

    @property
    def is_head(self) -> bool:
        """Whether only the headers of the answer are wanted."""
        return bool(self._scope["method"] == "HEAD")

    @property
    def address(self) -> str:
        """The client's IP address; empty when nothing tells it."""
        return address_of(self._scope)

    @property
    def connection(self) -> Connection:
        """The connection on which the answer goes."""
        return self._scope[CONNECTION]  # type: ignore[no-any-return]

    async def spend(self, spending: Awaitable[Verdict]) -> None:
        """Spend from one more rate limit, of which the answer tells instead; raises `Limited`."""
        self._scope[RATE_LIMIT] = await spending

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, limit: int, *, patches: Sequence[str] = ()) -> bytes:
        """The JSON body, or a patch of one of these kinds; raises `unsupported-media-type` and `too-large`."""
        bodies.check_media_type(self.headers, patches)
        return await bodies.read(self.headers, self._receive, limit)

    def lines(self, limit: int) -> AsyncIterator[bytes]:
        """The lines of a body of any length, as they arrive; raises like `body`, for a line past the limit."""
        bodies.check_lines(self.headers)
        return bodies.lines(self._receive, limit)

    async def gone(self) -> None:
        """Return when the client has gone, which may be never."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


Endpoint = Callable[[Incoming], Awaitable[Answer]]


class Guard:
    """Lets callers pass whose token carries a permission, or, where none is named, any valid token. With
    `strangers` also callers who show none. The token is in the header or in a cookie."""

    def __init__(
        self,
        admission: Admission,
        limiter: RateLimiter,
        cookies: Cookies,
        permission: str = "",
        *,
        strangers: bool = False,
    ) -> None:
        self._admission = admission
        self._limiter = limiter
        self._cookies = cookies
        self._permission = permission
        self._strangers = strangers

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        """The caller, whose request is spent from its rate limit, or from its address' if it isn't known."""
        address, group = address_of(scope), _group(scope)
        by_cookie = self._bring(headers)
        try:
            principal = await resolve_when_ready(self._caller, headers.get(b"authorization"), address)
            if by_cookie and scope["method"] not in SAFE_METHODS:
                self._cookies.check(headers, principal.session)
        except Failure as failure:
            if failure.code == "unauthenticated":
                scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, ANONYMOUS, address, group)
            raise
        scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, principal, address, group)
        if self._permission and not principal.has(self._permission):
            raise Failure("forbidden", f"this needs the permission {self._permission}")
        return principal

    def _bring(self, headers: dict[bytes, bytes]) -> bool:
        """Put a cookie's token or an API key of its own header where a bearer's would be; whether it was a cookie."""
        token = self._cookies.of(headers).get(self._cookies.access)
        key = headers.get(b"x-api-key")
        if (b"authorization" in headers) + bool(token) + (key is not None) > 1:
            raise Failure("bad-request", "send one credential: a token, an API key or cookies", field="Authorization")
        if token:
            headers[b"authorization"] = b"Bearer " + token.encode("latin-1")
        if key is not None:
            headers[b"authorization"] = b"ApiKey " + key
        return bool(token)

    def _caller(self, authorization: bytes | None, address: str) -> Principal:
        if authorization is None and self._strangers:
            return ANONYMOUS
        return self._admission.caller(None if authorization is None else authorization.decode("latin-1"), address)


class OpenDoor:
    """Lets everybody pass, as nobody: no credential is looked at, and requests are spent from the address'
    rate limit."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Principal:
        scope[RATE_LIMIT] = await resolve_when_ready(self._limiter.spend, ANONYMOUS, address_of(scope), _group(scope))
        return ANONYMOUS


class Resource:
    """The methods of one path, as an ASGI application; HEAD comes with GET."""

    def __init__(
        self, guard: Guard | OpenDoor | None = None, parameters: Iterable[str] = (), **methods: Endpoint
    ) -> None:
        self._guard = guard
        self._parameters = frozenset(parameters)
        self._methods = {name.upper(): endpoint for name, endpoint in methods.items()}
        if "GET" in self._methods:
            self._methods["HEAD"] = self._methods["GET"]
        self._allowed = ", ".join(sorted(self._methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._methods.get(scope["method"])
        if endpoint is None:
            raise MethodNotAllowed(scope["method"], self._allowed)
        found = _headers(scope["headers"])
        principal = ANONYMOUS
        if self._guard is not None:
            principal = await self._guard.admit(scope, found)
        query: bytes = scope["query_string"]
        values = parameters.parse(query, self._parameters) if query else {}
        await send_answer(await endpoint(Incoming(scope, receive, found, principal, values)), send)


def _group(scope: Scope) -> str:
    """The first part of the path."""
    return scope["path"].split("/", 2)[1]  # type: ignore[no-any-return]


def address_of(scope: Scope) -> str:
    """The client's IP address; empty when nothing tells it."""
    client = scope.get("client")
    return _address(client[0]) if client else ""


@lru_cache(maxsize=10_000)
def _address(host: str) -> str:
    """The address in its one spelling; empty for what a proxy has sent that is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Name → value; the values of a header that may be a list are joined (RFC 9110 §5.3)."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for name, value in pairs:
        if name in found and name in _SINGLE:
            raise headers.repeated(_SINGLE[name])
        found[name] = found[name] + b", " + value if name in found else value
    return found
