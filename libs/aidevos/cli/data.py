"""`aidevos data`: collections and their items."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated, Any

import msgspec
from typer import Argument, Option

from aidevos.cli.arguments import STANDARD, parse_arguments, read_object
from aidevos.cli.conditions import parse_filter
from aidevos.cli.errors import CommandError
from aidevos.cli.listing import MERGE_PATCH, Limit, at, given, path_of
from aidevos.cli.output import Column, Json, Yes, confirm, print_fields, print_rows
from aidevos.cli.remote import call, read_all
from aidevos.client.api import HttpApi
from aidevos.client.errors import NotFound

COLLECTIONS = {"NAME": "name", "ITEMS": "count", "PROJECT": "project", "CHANGED": at("updated_at")}
ITEMS: dict[str, Column] = {"ID": "id", "VERSION": "version", "CHANGED": at("updated_at"), "DATA": "data"}
VERSIONS = {"VERSION": "version", "AT": at("at"), "AUTHOR": "author", "DELETED": "deleted"}
# What `aidevos data config` shows beside the configuration.
NOT_CONFIGURED = ("name", "owner", "version", "created_at", "updated_at")
# More fields than this are shown as JSON in one column.
MAX_COLUMNS = 6

Collection = Annotated[str, Argument(help="The collection's name.")]
Item = Annotated[str, Argument(metavar="ID", help="The item's ID.")]
Document = Annotated[
    list[str] | None,
    Argument(metavar="[KEY=VALUE... | JSON | -]", help="The data, or - for JSON on standard input."),
]
Conditions = Annotated[
    list[str] | None, Argument(metavar="[CONDITION]...", help="Such as 'price>=10'; all of them must hold.")
]
Where = Annotated[str, Option(metavar="JSON", help="A filter in JSON, for what conditions can't say.")]
IfMatch = Annotated[int | None, Option(metavar="VERSION", help="Only if the item has this version.")]


def collection_path(collection: str) -> str:
    """Return the path of a collection and, with a page's parameters, of its items."""
    return path_of("data", "collections", collection)


def list_collections(
    project: Annotated[str, Option(metavar="ID", help="Only collections of this project.", show_default=False)] = "",
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """List the collections and how many items they have.

    Example: aidevos data collections

    Counts are of the items that you may read.
    """
    params = given(project=project)
    rows = call(lambda api: read_all(api, "/data/collections", params=params, limit=limit))
    print_rows(rows, COLLECTIONS, as_json=as_json)


def show_config(collection: Collection, as_json: Json = False) -> None:
    """Show the configuration of a collection.

    Example: aidevos data config books --json > books.json
    """
    print_fields(call(lambda api: api.call("GET", f"{collection_path(collection)}/config")), as_json=as_json)


def configure(
    collection: Collection,
    config: Annotated[str, Argument(metavar="JSON|-", help="The configuration, or - for standard input.")] = "{}",
    new_only: Annotated[bool, Option("--new-only", help="Apply a new schema to new items only.")] = False,
    as_json: Json = False,
) -> None:
    """Create a collection, or replace its configuration.

    Example: aidevos data configure books '{"rules": {"read": "public"}, "indexes": [["price"]]}'
    """
    body = {name: value for name, value in read_object(config, "JSON").items() if name not in NOT_CONFIGURED}
    params = {"validate": "new"} if new_only else None
    made = call(lambda api: api.call("PUT", collection_path(collection), body=body, params=params))
    print_fields(made, as_json=as_json)


def drop_collection(collection: Collection, yes: Yes = False) -> None:
    """Delete a collection with all its items.

    Example: aidevos data drop books
    """
    confirm(f"Delete the collection {collection} with all its items for good?", yes=yes)
    call(lambda api: api.call("DELETE", collection_path(collection)))
    print(f"the collection {collection} is deleted")


def get_item(
    collection: Collection,
    id: Item,
    version: Annotated[int | None, Option(help="An earlier version, of a collection with a history.")] = None,
    fields: Annotated[str, Option(metavar="PATH,...", help="Only these parts of the data.")] = "",
    as_json: Json = False,
) -> None:
    """Show an item.

    Example: aidevos data get books sicp
    """
    params = given(version=version, fields=fields)
    print_fields(call(lambda api: api.call("GET", _item(collection, id), params=params)), as_json=as_json)


def put_item(
    collection: Collection, id: Item, document: Document = None, if_match: IfMatch = None, as_json: Json = False
) -> None:
    """Create an item, or replace its data.

    Example: aidevos data put books sicp title=SICP price=40

    A VALUE is JSON if it can be read as JSON, and otherwise text.
    """
    body = {"data": _read_document(document or [])}
    print_fields(call(lambda api: _put(api, _item(collection, id), body, if_match)), as_json=as_json)


def patch_item(
    collection: Collection, id: Item, document: Document = None, if_match: IfMatch = None, as_json: Json = False
) -> None:
    """Change parts of an item's data.

    Example: aidevos data patch books sicp price=35 draft=null

    The value null removes a part.
    """
    body, headers = _read_document(document or []), MERGE_PATCH | _precondition(if_match)
    changed = call(lambda api: api.call("PATCH", _item(collection, id), body=body, headers=headers))
    print_fields(changed, as_json=as_json)


def delete_items(
    collection: Collection,
    ids: Annotated[list[str], Argument(metavar="ID...", help="The items' IDs.")],
    if_match: IfMatch = None,
    yes: Yes = False,
) -> None:
    """Delete items.

    Example: aidevos data delete books sicp
    """
    confirm(f"Delete {', '.join(ids)} from {collection}?", yes=yes)

    async def work(api: HttpApi) -> None:
        for id in ids:
            await api.call("DELETE", _item(collection, id), headers=_precondition(if_match))
            print(f"{id} is deleted", flush=True)

    call(work)


def find_items(
    collection: Collection,
    conditions: Conditions = None,
    where: Where = "",
    sort: Annotated[str, Option(metavar="PATH,...", help="The order; a minus reverses it: -price,name.")] = "",
    fields: Annotated[str, Option(metavar="PATH,...", help="Only these parts of the data.")] = "",
    count: Annotated[bool, Option("--count", help="Print only how many there are.")] = False,
    limit: Limit = 0,
    as_json: Json = False,
) -> None:
    """Find items.

    Example: aidevos data find books 'price>=10' 'title^=S' --sort -price

    A condition is a path in the data, one of = != > >= < <= ^= (begins with) *= (contains), and a value: JSON if it can
    be read as JSON, and otherwise text.
    """
    params = given(filter=parse_filter(conditions or [], where) or None, sort=sort, fields=fields)
    path = collection_path(collection)
    if count:
        found = call(lambda api: api.call("GET", path, params=params | {"limit": 1, "count": "true"}))
        print(found["count"])
        return
    items = call(lambda api: read_all(api, path, params=params, limit=limit))
    print_rows(items, _columns(items), as_json=as_json)


def show_history(collection: Collection, id: Item, limit: Limit = 0, as_json: Json = False) -> None:
    """List the versions of an item, the latest first.

    Example: aidevos data history books sicp

    Only collections with a history keep them.
    """
    path = f"{_item(collection, id)}/history"
    print_rows(call(lambda api: read_all(api, path, limit=limit)), VERSIONS, as_json=as_json)


def restore_item(
    collection: Collection,
    id: Item,
    version: Annotated[int, Argument(help="The version, as `aidevos data history` shows it.")],
    as_json: Json = False,
) -> None:
    """Give an item the data of an earlier version.

    Example: aidevos data restore books sicp 1

    It works after a deletion, too.
    """
    path, params = f"{_item(collection, id)}/restore", {"version": version}
    print_fields(call(lambda api: api.call("POST", path, params=params)), as_json=as_json)


async def _put(api: HttpApi, path: str, body: Any, if_match: int | None) -> Any:
    """Return the item after it was replaced or created."""
    if if_match is not None:
        return await api.call("PUT", path, body=body, headers=_precondition(if_match))
    try:
        return await api.call("PUT", path, body=body)
    except NotFound:
        return await api.call("PUT", path, body=body, headers={"If-None-Match": "*"})


def _item(collection: str, id: str) -> str:
    return collection_path(collection) + path_of(id)


def _precondition(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def _read_document(words: list[str]) -> Any:
    """Return the data that the words of a command give. Raises `CommandError`."""
    if len(words) == 1 and (words[0] == STANDARD or words[0].lstrip()[:1] in '{["'):
        source = sys.stdin.buffer.read() if words[0] == STANDARD else words[0]
        try:
            return msgspec.json.decode(source)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise CommandError(f"the data must be JSON: {error}") from None
    if not words:
        raise CommandError("give the data: KEY=VALUE, JSON, or - for JSON on standard input")
    return parse_arguments(words)


def _columns(items: list[Any]) -> dict[str, Column]:
    """Return a column for each field of the data, or one for all if there are many or some data is no object."""
    names = dict.fromkeys(name for item in items if isinstance(item["data"], dict) for name in item["data"])
    if len(names) > MAX_COLUMNS or not all(isinstance(item["data"], dict) for item in items):
        return ITEMS
    return {"ID": "id", **{name: partial(_field, name) for name in names}}


def _field(name: str, item: dict[str, Any]) -> Any:
    return item["data"].get(name)
