"""`aidevos objects export` and `import`: objects as lines of JSON."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from typer import Argument, Option

from aidevos.cli.errors import UNREACHABLE, CommandError
from aidevos.cli.files import opened, written
from aidevos.cli.listing import given, path_of
from aidevos.cli.output import Json
from aidevos.cli.progress import Progress, report
from aidevos.cli.remote import call
from aidevos.cli.target import find_owned_target
from aidevos.client.api import HttpApi
from aidevos.client.errors import ApiError, Unauthenticated
from aidevos.contracts import subjects

# Seconds for one request: a fleet lets large imports wait for the caller's rate limit.
DEADLINE = 300.0
# Pauses in seconds before a stream that has broken off is continued. Each line that it brings begins them anew.
PAUSES = (0.2, 1.0, 2.0, 4.0, 8.0)
MOMENT = "Export-Moment"


def export_objects(
    type: Annotated[str, Argument(help="The type's name.")],
    project: Annotated[str, Option(help="Only the objects of this project.", show_default=False)] = "",
    where: Annotated[
        str,
        Option(metavar="JSON", help='Only objects whose states are so: {"value": {"gte": 5}}.', show_default=False),
    ] = "",
    output: Annotated[str, Option(metavar="FILE|-", help="A file, or - for standard output.")] = "-",
) -> None:
    """Write the objects of a type as lines of JSON.

    Example: aidevos objects export cart --where '{"total": {"gte": 100}}' --output carts.ndjson

    They are as they were at one moment. An export that breaks off goes on by itself. A file appears once it is whole.
    """
    if not subjects.is_type(type):
        raise CommandError(f"{type!r} is not the name of a type; `aidevos types list` shows them")
    with Progress("exporting") as progress, written(output) as file:

        async def work(api: HttpApi) -> int:
            if not where:
                params = given(type=type, project=project, internal="true", limit=1, count="true")
                progress.expect((await api.call("GET", "/durable-objects", params=params))["count"])
            count = 0
            async for line in exported_lines(api, type, given(project=project, where=where)):
                file.write(line + b"\n")
                progress.advance(1)
                count += 1
            return count

        count = call(work, deadline=DEADLINE, target=find_owned_target())
    print(f"{count} objects", file=sys.stderr)


def import_objects(
    file: Annotated[str, Argument(metavar="FILE|-", help="A file, or - for standard input.")],
    on_conflict: Annotated[
        Literal["skip", "replace", "fail"], Option(help="What to do with an object that exists already.")
    ] = "fail",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Check every line against the types of the fleet, and change nothing.")
    ] = False,
    stop: Annotated[bool, Option("--stop", help="End at the first failure; by default, the rest goes on.")] = False,
    as_json: Json = False,
) -> None:
    """Load objects from lines of JSON.

    Example: aidevos objects import carts.ndjson --on-conflict skip

    Each is loaded by a command that its host commits, and may be in use meanwhile. A line that is sent again after an
    interruption is loaded once.
    """
    from aidevos.cli.object_import import ObjectImport

    with opened(file) as lines, Progress("importing") as progress:
        if lines.seekable():
            progress.expect(sum(1 for line in lines if line.strip()))
            lines.seek(0)

        async def work(api: HttpApi) -> Any:
            loading = ObjectImport(api, on_conflict, dry_run=dry_run, stop=stop, on_done=progress.advance)
            await loading.run(lines)
            return loading.outcome

        outcome = call(work, deadline=DEADLINE, target=find_owned_target())
    report(outcome, "objects", as_json=as_json, dry_run=dry_run)


async def exported_lines(api: HttpApi, type: str, params: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Yield the lines of an export. Where it breaks off, it goes on at the same moment.

    Raises `ApiError` if it can't begin, and `CommandError` if it can't go on.
    """
    path, moment, after, count, pauses = path_of("durable-objects", type, "export"), "", "", 0, list(PAUSES)
    while True:
        try:
            async with api.stream(path, params={**params, **given(moment=moment, after=after)}) as answer:
                moment = answer.headers[MOMENT]
                async for line in _lines(answer.aiter_bytes()):
                    yield line
                    after, count, pauses = msgspec.json.decode(line, type=_Id).id, count + 1, list(PAUSES)
                return
        except ApiError as error:
            if not (pauses and (error.retryable or isinstance(error, Unauthenticated))):
                if not moment:
                    raise
                reason = f"{error.code}: {error.detail}"
                raise CommandError(
                    f"the export broke off after {count} objects and can't go on: run it again ({reason})", UNREACHABLE
                ) from None
        await asyncio.sleep(pauses.pop(0))


class _Id(msgspec.Struct):
    id: str


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield whole lines. What follows the last one is not a line."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
