"""The tools of agents. Each is a request to the HTTP API, with the rights of its caller.

Promise: a tool that `reads` changes nothing. The object's host refuses it any command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import Parameter, getdoc, signature
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints
from urllib.parse import quote

import msgspec
from msgspec import Meta

from aidevos.client.api import HttpApi
from aidevos.contracts import data, subjects
from aidevos.contracts.envelope import QUERY_ONLY
from aidevos.contracts.errors import Failure
from aidevos.contracts.patterns import whole
from aidevos.contracts.tasks import Status
from aidevos.mcp.descriptions import describe, summarize

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])
TypeName = Annotated[str, Meta(pattern=whole(subjects.TYPE_PATTERN), description="The name of a type")]
ObjectId = Annotated[
    str, Meta(pattern=f"^{subjects.TYPE_PATTERN}:", description="`<type>:<id>`, such as `counter:clicks`")
]
MethodName = Annotated[str, Meta(pattern=whole(subjects.METHOD_PATTERN), description="The name of a method")]
Arguments = Annotated[dict[str, Any] | None, Meta(description="The arguments by name, as `describe_type` shows them")]
Collection = Annotated[str, Meta(pattern=whole(data.COLLECTION_PATTERN), description="The name of a collection")]
Id = Annotated[str, Meta(pattern=whole(subjects.ID_PATTERN))]
Limit = Annotated[int, Meta(ge=1, le=500, description="The number of entries on a page")]
Cursor = Annotated[str | None, Meta(description="The `next_cursor` of the previous page")]
Filter = Annotated[dict[str, Any] | None, Meta(description='By paths in `data`, such as `{"price": {"gte": 10}}`')]
Sort = Annotated[str | None, Meta(description="Paths in `data`, such as `-price,name`; a minus reverses the order")]
Names = Annotated[str | None, Meta(description="Several are separated by commas")]
RequestId = Annotated[str | None, Meta(description="A repeated call under the same ID takes effect once")]
DOCUMENT = "/openapi.json"
PAGE = 50
# Seconds until a stream of events must have begun.
OPENED_WITHIN = 15.0


class Tool(NamedTuple):
    """A tool; `arguments` is the type of what `run` takes besides the API."""

    name: str
    about: str
    reads: bool
    arguments: type[msgspec.Struct]
    run: Callable[..., Awaitable[Any]]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        _, found = msgspec.json.schema_components([self.arguments])
        schema: dict[str, Any] = found[self.arguments.__name__]
        return schema


TOOLS: dict[str, Tool] = {}


def tool(*, reads: bool) -> Callable[[Function], Function]:
    """Make a function a tool of its name. Its docstring and annotations tell agents how to use it."""

    def add(function: Function) -> Function:
        hints = get_type_hints(function, include_extras=True)
        parameters = [each for each in signature(function).parameters.values() if each.name != "api"]
        fields: Any = [
            (each.name, hints[each.name], *(() if each.default is Parameter.empty else (each.default,)))
            for each in parameters
        ]
        arguments = msgspec.defstruct(function.__name__, fields, forbid_unknown_fields=True, kw_only=True)
        TOOLS[function.__name__] = Tool(function.__name__, getdoc(function) or "", reads, arguments, function)
        return function

    return add


async def use(api: HttpApi, name: str, arguments: dict[str, Any]) -> Any:
    """Use a tool, and return its result as JSON can have it.

    Raises `KeyError` if there is no such tool, `invalid` for its arguments, and what the API raises.
    """
    found = TOOLS[name]
    try:
        values = msgspec.convert(arguments, found.arguments)
    except msgspec.ValidationError as error:
        raise Failure("invalid", str(error)) from None
    return await found.run(api, **msgspec.structs.asdict(values))


@tool(reads=True)
async def list_types(api: HttpApi) -> Any:
    """List the types of objects that this fleet serves, with their methods."""
    return summarize(await api.call("GET", DOCUMENT))


@tool(reads=True)
async def describe_type(api: HttpApi, type: TypeName) -> Any:
    """Describe a type: for each method, whether it is a command or a query, and the schemas of its arguments and
    result."""
    found = describe(await api.call("GET", DOCUMENT), type)
    if found is None:
        raise Failure("unknown-type", "the fleet serves no such type; `list_types` lists all", field="type")
    return found


@tool(reads=True)
async def list_objects(api: HttpApi, type: TypeName, limit: Limit = PAGE, cursor: Cursor = None) -> Any:
    """List the objects of a type, sorted by ID, with their states."""
    return await api.call("GET", "/durable-objects", params={"type": type, "limit": limit, "cursor": cursor})


@tool(reads=True)
async def read_object(api: HttpApi, object_id: ObjectId) -> Any:
    """Show an object: its version, its times, and its state if its type shows it."""
    return await api.call("GET", _path(object_id))


@tool(reads=True)
async def call_query(api: HttpApi, object_id: ObjectId, method: MethodName, arguments: Arguments = None) -> Any:
    """Call a query of an object, and return its result. A query changes nothing."""
    return await _call(api, object_id, method, arguments, {QUERY_ONLY: "true"})


@tool(reads=False)
async def call_command(
    api: HttpApi, object_id: ObjectId, method: MethodName, arguments: Arguments = None, request_id: RequestId = None
) -> Any:
    """Call a command of an object, which may change it, and return its result. An ID that doesn't exist becomes a new
    object."""
    return await _call(api, object_id, method, arguments, {"Idempotency-Key": request_id} if request_id else {})


@tool(reads=True)
async def list_collections(api: HttpApi, limit: Limit = PAGE, cursor: Cursor = None) -> Any:
    """List the collections of documents that the caller may see."""
    return await api.call("GET", "/data/collections", params={"limit": limit, "cursor": cursor})


@tool(reads=True)
async def find_items(
    api: HttpApi,
    collection: Collection,
    filter: Filter = None,
    sort: Sort = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Any:
    """Find documents of a collection. A filter has the operators eq, ne, gt, gte, lt, lte, in, nin, exists, contains
    and starts_with, and combines conditions by `and`, `or` and `not`."""
    wanted = {"filter": filter, "sort": sort, "limit": limit, "cursor": cursor}
    return await api.call("GET", f"/data/collections/{collection}", params=wanted)


@tool(reads=True)
async def read_item(api: HttpApi, collection: Collection, item_id: Id) -> Any:
    """Show a document of a collection."""
    return await api.call("GET", f"/data/collections/{collection}/{item_id}")


@tool(reads=True)
async def list_projects(api: HttpApi, limit: Limit = PAGE, cursor: Cursor = None) -> Any:
    """List the projects that the caller may see."""
    return await api.call("GET", "/projects", params={"limit": limit, "cursor": cursor})


@tool(reads=True)
async def list_tasks(
    api: HttpApi, project_id: Id, status: Status | None = None, limit: Limit = PAGE, cursor: Cursor = None
) -> Any:
    """List the background tasks of a project, the newest first, with their results."""
    wanted = {"status": status, "sort": "-created_at", "limit": limit, "cursor": cursor}
    return await api.call("GET", f"/projects/{project_id}/tasks", params=wanted)


@tool(reads=True)
async def tail_events(
    api: HttpApi,
    type: Names = None,
    collection: Names = None,
    id: Names = None,
    name: Names = None,
    after: Annotated[str | None, Meta(description="The `next` of an earlier answer; by default, from now on")] = None,
    seconds: Annotated[float, Meta(ge=1, le=30, description="The longest time to wait")] = 10.0,
    limit: Annotated[int, Meta(ge=1, le=100, description="The number of events after which to return")] = 20,
) -> Any:
    """Wait for events, and return them with `next`, the position from which to go on. Without filters, these are all
    events that the caller may see. `name` is like `created`; `collection` is that of items."""
    wanted, found = {"type": type, "collection": collection, "id": id, "name": name}, list[Any]()
    begun = False
    with suppress(TimeoutError):
        async with asyncio.timeout(OPENED_WITHIN) as wait:
            async for event in api.events(params=wanted, last_event_id=after, places=True):
                if not begun:
                    begun = True
                    wait.reschedule(asyncio.get_running_loop().time() + seconds)
                after = event.id
                found += [] if event.data is None else [event.data]
                if len(found) == limit:
                    break
    return {"events": found, "next": after}


async def _call(
    api: HttpApi, object_id: str, method: str, arguments: dict[str, Any] | None, headers: dict[str, str]
) -> Any:
    body = {"method": method, "args": arguments or {}}
    answer = await api.call("POST", f"{_path(object_id)}/request", body=body, headers=headers)
    return answer["result"]


def _path(object_id: str) -> str:
    return f"/durable-objects/{quote(object_id, safe=':')}"
