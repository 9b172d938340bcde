"""An HTTP request as a handler sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from starlette.types import Receive, Scope

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.durable.access.limiter import Verdict
from aidevos.security.permissions import ANONYMOUS, Principal

from . import bodies, headers
from .connection import CONNECTION, Connection
from .responses import RATE_LIMIT

# The keys of the request's ID and of its caller in its scope.
REQUEST_ID, PRINCIPAL = "aidevos.request_id", "aidevos.principal"
# Stands for bytes of a path that are no UTF-8.
UNDECODABLE = "\ufffd"
# Headers that may occur once; it would be unclear which of two counts.
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


class HttpRequest:
    """A request whose caller was admitted.

    `headers` have lower-case names, `parameters` come from the query string, and `content` is the body
    once it was read.
    """

    __slots__ = ("_receive", "content", "headers", "parameters", "principal", "scope")

    def __init__(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], principal: Principal, values: dict[str, str]
    ) -> None:
        self.scope = scope
        self._receive = receive
        self.headers = headers
        self.principal = principal
        self.parameters = values
        self.content = b""

    @property
    def path(self) -> dict[str, str]:
        """The values of the path's variables."""
        return self.scope["path_params"]  # type: ignore[no-any-return]

    @property
    def object(self) -> tuple[str, str]:
        """The type and the ID of the object that the path's `object_id` names. Raises `invalid`."""
        name = self.path["object_id"]
        if UNDECODABLE in name:
            raise Failure("invalid", "a name must be valid UTF-8", field="object_id")
        return subjects.find_object(name)

    @property
    def target(self) -> str:
        """The method and the path."""
        return f"{self.scope['method']} {self.scope['path']}"

    @property
    def is_head(self) -> bool:
        """True if the client wants only the response's headers."""
        return bool(self.scope["method"] == "HEAD")

    @property
    def address(self) -> str:
        """The client's IP address, or an empty string if it is unknown."""
        return address_of(self.scope)

    @property
    def connection(self) -> Connection:
        """The connection that carries the response."""
        return self.scope[CONNECTION]  # type: ignore[no-any-return]

    def require(self, permission: str) -> None:
        """Raise `unauthenticated` or `forbidden` unless the caller has the permission."""
        if self.principal is ANONYMOUS:
            raise Failure("unauthenticated", "send an access token or an API key")
        if not self.principal.has(permission):
            raise Failure("forbidden", f"this requires the permission {permission}")

    async def spend(self, spending: Awaitable[Verdict]) -> None:
        """Charge more, of the same or another rate limit, which the response's headers then show.

        Raises `RateLimited`.
        """
        verdict, before = await spending, self.scope[RATE_LIMIT]
        same = verdict.name == before.name
        self.scope[RATE_LIMIT] = verdict._replace(cost=verdict.cost + before.cost) if same else verdict

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, limit: int, *, patches: Sequence[str] = ()) -> bytes:
        """Return the body: JSON, or one of these kinds of patches, of at most `limit` bytes.

        Raises `unsupported-media-type` and `too-large`.
        """
        bodies.check_media_type(self.headers, patches)
        connection: Connection | None = self.scope.get(CONNECTION)
        has_arrived = connection is not None and connection.is_quiet
        self.content = await bodies.read(self.headers, self._receive, limit, has_arrived=has_arrived)
        return self.content

    def check_lines(self, limit: int) -> None:
        """Raise what `lines` would raise because of the headers, without reading the body."""
        bodies.check_lines_type(self.headers)
        bodies.check_length(self.headers, limit)

    def lines(self, line_limit: int, limit: int) -> AsyncIterator[bytes]:
        """Yield the lines of a body as they arrive.

        Raises the same as `body`; the limits are in bytes, of a line and of the body.
        """
        self.check_lines(limit)
        return bodies.lines(self._receive, line_limit, limit)

    async def gone(self) -> None:
        """Return when the client disconnects, which may never happen."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def object_of(scope: Scope) -> str:
    """Return `<type>:<ID>` of the object that the path names, or an empty string if it names none."""
    try:
        return subjects.join_object_id(*subjects.find_object(scope.get("path_params", {}).get("object_id", "")))
    except Failure:
        return ""


def logged_path(scope: Scope) -> str:
    """Return the path, with an object's ID for its name, which may be an e-mail address."""
    path: str = scope["path"]
    name = scope.get("path_params", {}).get("object_id")
    return path if name is None else path.replace(name, object_of(scope) or "?", 1)


def group_of(scope: Scope) -> str:
    """Return the first segment of the path."""
    return scope["path"].split("/", 2)[1]  # type: ignore[no-any-return]


def address_of(scope: Scope) -> str:
    """Return the client's IP address, or an empty string if it is unknown."""
    client = scope.get("client")
    return _address(client[0]) if client else ""


@lru_cache(maxsize=10_000)
def _address(host: str) -> str:
    """Return the address in canonical form, or an empty string if a proxy sent anything else."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return str(getattr(address, "ipv4_mapped", None) or address)


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by lower-case name.

    Repeated headers that are lists are joined (RFC 9110 §5.3). Raises `bad-request` if another header
    is repeated.
    """
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = {}
    for name, value in pairs:
        if name in found and name in _SINGLE:
            raise headers.repeated_header(_SINGLE[name])
        found[name] = found[name] + b", " + value if name in found else value
    return found
