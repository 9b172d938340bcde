"""`aidevos data export` and `import`: the items of a collection as lines of JSON (NDJSON)."""

from __future__ import annotations

import sys
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
from typer import Argument, Option

from aidevos.cli.conditions import parse_filter
from aidevos.cli.data import Collection, Conditions, Where, collection_path
from aidevos.cli.files import opened, written
from aidevos.cli.items import ItemImport
from aidevos.cli.listing import given
from aidevos.cli.output import Json
from aidevos.cli.progress import Progress, report
from aidevos.cli.remote import PAGE, call
from aidevos.client.api import HttpApi
from aidevos.client.errors import Invalid

# Seconds for one request: a fleet lets large imports wait for the caller's rate limit.
DEADLINE = 300.0


def export_items(
    collection: Collection,
    conditions: Conditions = None,
    where: Where = "",
    output: Annotated[str, Option(metavar="FILE|-", help="A file, or - for standard output.")] = "-",
) -> None:
    """Write the items of a collection as lines of JSON.

    Example: aidevos data export books --output books.ndjson

    A line is {"id", "data"}. Conditions are those of `aidevos data find`. A file appears when it is complete.
    """
    path, params = collection_path(collection), given(filter=parse_filter(conditions or [], where) or None)
    with Progress("exporting") as progress, written(output) as file:

        async def work(api: HttpApi) -> int:
            progress.expect(await _count(api, path, params))
            return await _export(api, path, params, file, progress)

        count = call(work, deadline=DEADLINE)
    print(f"{count} items", file=sys.stderr)


def import_items(
    collection: Collection,
    file: Annotated[str, Argument(metavar="FILE|-", help="A file, or - for standard input.")],
    on_conflict: Annotated[
        Literal["skip", "replace", "fail"], Option(help="What to do with an item that exists already.")
    ] = "fail",
    stop: Annotated[bool, Option("--stop", help="End at the first failure; by default, the rest goes on.")] = False,
    as_json: Json = False,
) -> None:
    """Create items from lines of JSON.

    Example: aidevos data import books books.ndjson --on-conflict replace

    A line is {"id", "data"}; an item without an ID gets a new one.
    """
    with opened(file) as lines, Progress("importing") as progress:
        if lines.seekable():
            progress.expect(sum(1 for line in lines if line.strip()))
            lines.seek(0)

        async def work(api: HttpApi) -> Any:
            items = ItemImport(api, collection, on_conflict, stop=stop, on_done=progress.advance)
            await items.run(lines)
            return items.outcome

        outcome = call(work, deadline=DEADLINE)
    report(outcome, "items", as_json=as_json)


async def _count(api: HttpApi, path: str, params: dict[str, Any]) -> int | None:
    """Return the number of items to export, or None if counting them takes too long."""
    try:
        found = await api.call("GET", path, params=params | {"limit": 1, "count": "true"})
    except Invalid as error:
        if error.code != "too-slow":
            raise
        return None
    return int(found["count"])


async def _export(api: HttpApi, path: str, params: dict[str, Any], file: BinaryIO, progress: Progress) -> int:
    """Write the items to a file and return their number."""
    count = 0
    async for item in api.items(path, params=params | {"limit": PAGE}):
        file.write(msgspec.json.encode({"id": item["id"], "data": item["data"]}) + b"\n")
        progress.advance(1)
        count += 1
    return count
