"""`aidevos objects`: the durable objects of the fleet in use."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from typer import Argument, Option

from aidevos.cli.arguments import parse_arguments, read_object
from aidevos.cli.listing import path_of
from aidevos.cli.output import Json, Watch, Yes, confirm, print_fields, print_json, print_line, print_rows, repeat
from aidevos.cli.remote import call, read_all, warn_of_missing
from aidevos.client.api import HttpApi

OBJECTS = "/durable-objects"
COLUMNS = {
    "OBJECT": "object_id",
    "VERSION": "version",
    "STATUS": "status",
    "CHANGED": "updated_at",
    "PROJECT": "project",
}
VERSIONS = {"VERSION": "version", "AT": "at", "CALLER": "caller", "METHOD": "method", "REQUEST": "request_id"}
# Seconds between two looks at an object.
LOOK_EVERY = 1.0

Id = Annotated[str, Argument(metavar="TYPE:ID", help="The object, such as counter:clicks.")]
Type = Annotated[str, Argument(metavar="TYPE", help="Only objects of this type.", show_default=False)]
Project = Annotated[str, Option(help="Only the objects of this project.", show_default=False)]
Limit = Annotated[int, Option(min=0, help="The most rows; 0 for all.")]


def list_objects(
    type: Type = "",
    project: Project = "",
    internal: Annotated[bool, Option("--internal", help="Show the types that services use themselves, too.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
    watch: Watch = False,
) -> None:
    """List objects by type and ID.

    Example: aidevos objects list counter --limit 20
    """
    params = _listing(type, project, internal=internal)

    def show() -> None:
        rows = call(lambda api: read_all(api, OBJECTS, params=params, limit=limit))
        print_rows(rows, COLUMNS, as_json=as_json)
        if limit and len(rows) == limit:
            print(f"These are the first {limit}; --limit 0 shows all.", file=sys.stderr)

    repeat(show, watch=watch)


def count(type: Type = "", project: Project = "") -> None:
    """Print the number of objects.

    Example: aidevos objects count counter
    """
    params = _listing(type, project)

    async def work(api: HttpApi) -> int:
        page = await api.call("GET", OBJECTS, params=params | {"limit": 1, "count": "true"})
        if page.get("count") is not None:
            warn_of_missing(page.get("left_out", []))
            return int(page["count"])
        # There are too many to count at once.
        return len(await read_all(api, OBJECTS, params=params))

    print(call(work))


def get(id: Id, as_json: Json = False) -> None:
    """Show an object with its state.

    Example: aidevos objects get counter:clicks --json
    """
    print_fields(call(lambda api: api.call("GET", _path(id))), as_json=as_json)


def call_method(
    id: Id,
    method: Annotated[str, Argument(metavar="METHOD", help="The method's name.")],
    pairs: Annotated[list[str] | None, Argument(metavar="KEY=VALUE", help="The arguments.", show_default=False)] = None,
    args: Annotated[
        str,
        Option(metavar="JSON|-", help="More arguments as a JSON object, or - for standard input.", show_default=False),
    ] = "",
    if_match: Annotated[
        int | None, Option(metavar="VERSION", help="Only if the object has this version.", show_default=False)
    ] = None,
    request_id: Annotated[
        str, Option(metavar="ID", help="The Idempotency-Key: a repeat has no second effect.", show_default=False)
    ] = "",
    deadline: Annotated[float, Option(metavar="SECONDS", min=0.1, help="The time for the answer.")] = 30.0,
) -> None:
    """Call a method of an object, and print its result as JSON.

    Example: aidevos objects call counter:clicks increment by=2

    A VALUE is JSON where it can be read as JSON, and otherwise text: by=2, name=Ada, tags='["a", "b"]'. Quotes make
    text of what looks like JSON: zip='"08150"'.
    """
    body = {"method": method, "args": parse_arguments(pairs or []) | (read_object(args, "--args") if args else {})}
    headers = {"If-Match": f'"{if_match}"'} if if_match is not None else {}
    headers |= {"Idempotency-Key": request_id} if request_id else {}
    answer = call(lambda api: api.call("POST", f"{_path(id)}/request", body=body, headers=headers, deadline=deadline))
    print_json(answer["result"])


def search(
    type: Annotated[str, Argument(metavar="TYPE", help="The type's name.")],
    name: Annotated[str, Argument(metavar="NAME", help="The name of its search or view.")],
    pairs: Annotated[list[str] | None, Argument(metavar="KEY=VALUE", help="The arguments.", show_default=False)] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """Ask a search or view of a type.

    Example: aidevos objects search note find prefix=t

    A search shows its rows as a table, and a view its answer as JSON.
    """
    path, given = path_of("durable-objects", type, "searches", name), parse_arguments(pairs or [])
    params = {key: each if isinstance(each, str) else msgspec.json.encode(each).decode() for key, each in given.items()}

    async def work(api: HttpApi) -> Any:
        found = await api.call("GET", path, params=params)
        if not (isinstance(found, dict) and {"items", "next_cursor"} <= found.keys()):
            return found
        rows = found["items"]
        while found["next_cursor"] is not None and (not limit or len(rows) < limit):
            found = await api.call("GET", path, params=params | {"cursor": found["next_cursor"]})
            rows += found["items"]
        return rows[: limit or None]

    found = call(work)
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        print_rows(found, {key.upper(): key for key in found[0]}, as_json=as_json)
    else:
        print_json(found)


def watch(id: Id, as_json: Json = False) -> None:
    """Show an object whenever it changes, until Ctrl-C.

    With --json, each version is one line.
    """

    async def follow(api: Any) -> None:
        version = None
        while True:
            found = await api.call("GET", _path(id))
            if found["version"] != version:
                version = found["version"]
                if as_json:
                    print_line(found)
                else:
                    print_fields(found, as_json=False)
                    print(flush=True)
            await asyncio.sleep(LOOK_EVERY)

    call(follow)


def history(
    id: Id,
    version: Annotated[int | None, Option(min=0, help="Show this version with its state.", show_default=False)] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the versions of an object, the newest first, or show one.

    Only types with the option `history` keep versions.
    """
    path = f"{_path(id)}/versions"
    if version is not None:
        print_fields(call(lambda api: api.call("GET", f"{path}/{version}")), as_json=as_json)
    else:
        print_rows(call(lambda api: read_all(api, path, limit=limit)), VERSIONS, as_json=as_json)


def delete(
    ids: Annotated[list[str], Argument(metavar="TYPE:ID", help="The objects.")],
    yes: Yes = False,
) -> None:
    """Delete objects.

    Example: aidevos objects delete counter:clicks --yes
    """
    confirm(f"Delete {', '.join(ids)}?", yes=yes)

    async def delete_all(api: Any) -> None:
        for id in ids:
            await api.call("DELETE", _path(id))

    call(delete_all)


def _path(id: str) -> str:
    """Return the path of an object; its ID is any text after the type."""
    return f"{OBJECTS}/{quote(id, safe=':')}"


def _listing(type: str, project: str, *, internal: bool = False) -> dict[str, str]:
    given = {"type": type, "project": project, "internal": "true" if internal else ""}
    return {name: value for name, value in given.items() if value}
