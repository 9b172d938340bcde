"""The operations of the client, and the protocol of its two entry points, HTTP and NATS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import quote

import msgspec

from aidevos.client.credentials import TokenSource
from aidevos.client.errors import error_of
from aidevos.contracts import envelope, subjects
from aidevos.contracts.errors import Failure

T = TypeVar("T")
MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"


class Operation(NamedTuple):
    """An operation as a request over HTTP, and as a subject over NATS."""

    verb: str
    path: str
    subject: str

    @classmethod
    def on(cls, verb: str, path: str, type: str, id: str, method: str, **names: str) -> Self:
        """Return the operation that calls a method of an object. `{id}` and other names in the path are filled in.

        Raises `NotFound` if no object can have this ID.
        """
        if not subjects.is_id(id):
            raise error_of(Failure("not-found", f"{id!r} is not the ID of a {type}"))
        quoted = {name: quote(value, safe="") for name, value in {"id": id, **names}.items()}
        return cls(verb, path.format(**quoted), subjects.call(type, id, method))


class Options(NamedTuple):
    """Options of a request: its deadline in seconds, an ID that makes repeats one request, and a version to match."""

    deadline: float | None = None
    request_id: str | None = None
    if_match: int | None = None


NO_OPTIONS = Options()


class LiveEvent(NamedTuple):
    """An event of an object, such as `item.created`, with the data that the object's type defines.

    `position` is where a stream of events resumes after it. `time` is RFC 3339 in UTC. An event of the type `gap` has
    no object: it says that later events are no longer kept, so read anew what you show.
    """

    type: str
    object_id: str
    data: Any
    id: str
    time: str
    position: str


class EntryPoint(Protocol):
    """HTTP or NATS. Methods raise `ApiError`."""

    token: str | TokenSource | None

    async def perform(
        self,
        operation: Operation,
        args: Any = None,
        *,
        over_nats: Mapping[str, Any] | None = None,
        media: str = envelope.JSON,
        options: Options = NO_OPTIONS,
        anonymous: bool = False,
    ) -> Any:
        """Perform an operation, and return its decoded answer.

        `args` are the parameters of a GET, or the body of another request, of this media type. Over NATS they are the
        arguments, unless those differ.
        """
        ...

    async def send(self, options: Options, type: str, id: str, method: str, payload: bytes) -> bytes:
        """Call a method of an object with encoded arguments, and return its encoded result."""
        ...

    def events(self, wanted: Mapping[str, list[str]], after: str | None) -> AsyncGenerator[LiveEvent, None]:
        """Yield the events that match, after a position or from now on. `wanted` has names and their allowed values."""
        ...

    async def close(self) -> None: ...


async def follow_pages(fetch: Callable[[str | None], Awaitable[Any]], shape: type[T]) -> AsyncGenerator[T, None]:
    """Yield the items of all pages as this type; `fetch` returns the page at a cursor."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page["items"]:
            yield msgspec.convert(item, shape)
        cursor = page.get("next_cursor")
        if cursor is None:
            return


def given(**values: Any) -> dict[str, Any]:
    """Return the arguments that aren't None."""
    return {name: value for name, value in values.items() if value is not None}


def join(values: str | list[str] | None) -> str | None:
    """Return names as one text with commas between, as both entry points take them."""
    return values if values is None or isinstance(values, str) else ",".join(values)
